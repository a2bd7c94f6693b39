"""Checkpoints: safe to load, never half-written.

Loading runs ``torch.load(weights_only=True)``, whose unpickler calls nothing that
is not on its list. MMEngine's checkpoints hold more than tensors (the history of
every logged scalar, NumPy numbers, dataset metadata), so stock MMEngine 0.10.7
cannot read its own files with torch >= 2.6. The list below adds what they need.

Three of those names would be holes if they stood for themselves: ``getattr``
reaches any attribute, ``numpy.dtype`` accepts a forged state, ``numpy.ndarray``
with that dtype reads raw bytes as object pointers. So names on the list stand for
small classes of this module, which take the one form that a checkpoint has and
refuse every other.
"""

import argparse
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

from .files import replacing

__all__ = [
    "AtomicLocalBackend",
    "CheckpointError",
    "MissingCheckpointError",
    "dataset_meta",
    "latest_checkpoint",
    "load_checkpoint",
    "register_atomic_writer",
    "register_safe_loader",
    "save_checkpoint",
]

ZIP_MAGIC = b"PK\x03\x04"
MapLocation = str | torch.device | Callable | dict | None


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and the cure."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no such file."""


class _RefusedError(Exception):
    """Raised by the stand-ins while a file is read; says what was refused."""


# --- stand-ins: what the names in a pickle become ---------------------------------


class _HistoryBuffer:
    """Stands for MMEngine's class and turns into it when its state is sound."""

    def __setstate__(self, state: dict) -> None:
        try:
            logs, counts = state["_log_history"], state["_count_history"]
            length = state["max_length"]
        except (KeyError, TypeError):
            raise _RefusedError("a HistoryBuffer without its histories") from None
        for history in (logs, counts):
            if not isinstance(history, np.ndarray) or history.dtype.kind not in "biuf":
                raise _RefusedError("a HistoryBuffer whose history is not numeric")
        if type(length) is not int:
            raise _RefusedError("a HistoryBuffer whose max_length is not an int")
        self.__class__ = HistoryBuffer
        # The statistics methods in the state are left behind: the class sets its own.
        self.__init__(np.array(logs), np.array(counts), length)


def _getattr(owner: Any, name: str) -> str:
    """Stands for ``getattr``, which only serves to name HistoryBuffer's methods."""
    if owner is not _HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise _RefusedError(f"getattr({owner!r}, {name!r})")
    return name


def _bytes() -> bytes:
    """Stands for ``bytes``, which protocol 2 calls for the empty string alone."""
    return b""


class _Dtype:
    """Stands for ``numpy.dtype``: numbers and fixed-width strings only."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufcSU]\d+", code):
            raise _RefusedError(f"NumPy dtype {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # Only the byte order is taken: offsets, sizes and flags follow from the code.
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise _RefusedError(f"NumPy byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    """Stands for ``numpy.core.multiarray.scalar``."""
    if not isinstance(dtype, _Dtype) or len(data) != dtype.dtype.itemsize:
        raise _RefusedError("a NumPy scalar of unknown layout")
    return np.frombuffer(data, dtype.dtype)[0]


class _Array(np.ndarray):
    """Stands for ``numpy.ndarray`` until :func:`_plain` makes it one."""

    def __new__(cls, *_: Any) -> "_Array":
        raise _RefusedError("a NumPy array without its data")

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise _RefusedError("a NumPy array of unknown layout")
        super().__setstate__((version, shape, dtype.dtype, fortran, data))


def _reconstruct(subtype: Any, shape: Any, dtype: Any) -> _Array:
    """Stands for ``numpy.core.multiarray._reconstruct``; the state brings the rest."""
    if subtype is not _Array:
        raise _RefusedError(f"a NumPy array of type {subtype!r}")
    return np.ndarray.__new__(_Array, (0,), "b")


def _plain(node: Any) -> Any:
    """Replace the stand-ins of NumPy in containers, keeping the containers."""
    if isinstance(node, _Array):
        return node.view(np.ndarray)
    if isinstance(node, _Dtype):
        return node.dtype
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _plain(value)
    elif isinstance(node, list):
        node[:] = [_plain(value) for value in node]
    elif type(node) is tuple:
        return tuple(_plain(value) for value in node)
    elif isinstance(node, argparse.Namespace):
        _plain(vars(node))
    return node


# numpy.core became numpy._core in NumPy 2; pathlib._local is Python 3.13.
_ALLOWED: list[tuple[Callable, str]] = [
    (_HistoryBuffer, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_getattr, "builtins.getattr"),
    (_bytes, "builtins.bytes"),
    (_Dtype, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(
        (_reconstruct, f"numpy.{core}.multiarray._reconstruct")
        for core in ("core", "_core")
    ),
    (argparse.Namespace, "argparse.Namespace"),
    # Pure paths hold the same text and cannot touch the file system.
    *(
        (pure, f"{module}.{prefix}{kind}Path")
        for module in ("pathlib", "pathlib._local")
        for prefix in ("", "Pure")
        for kind, pure in (("Posix", PurePosixPath), ("Windows", PureWindowsPath))
    ),
]


@contextmanager
def _allow_list() -> Iterator[None]:
    """Make our list the only one; others' additions to the process come back after."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            yield
    finally:
        torch.serialization.add_safe_globals(others)


# --- loading and saving -----------------------------------------------------------


def load_checkpoint(
    path: str | os.PathLike, map_location: MapLocation = "cpu", mmap: bool = False
) -> dict[str, Any]:
    """Load a checkpoint without running any code that it contains.

    Args:
        path: Local file, as written by MMEngine or ``torch.save``.
        map_location: Where tensors go, as in :func:`torch.load`.
        mmap: Whether tensors stay in the file until they are used, for a look at the
            rest. Files in the format before PyTorch 1.6 are read all the same.

    Returns:
        The dictionary in the file. NumPy values come back as such, paths as pure
        paths, and ``HistoryBuffer`` with MMEngine's own statistics methods.

    Raises:
        MissingCheckpointError: There is no such file; a FileNotFoundError, too.
        CheckpointError: The file is empty, cut short, no checkpoint, or holds an
            object that is not on the allow-list.
    """
    if isinstance(map_location, str):
        torch.device(map_location)  # a misspelt device is no fault of the file
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MissingCheckpointError(
            f"checkpoint {path} {what}; give the path of a .pth file"
        )
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise CheckpointError(
            f"checkpoint {path} is empty; use an older one or fetch it again"
        )
    if magic == ZIP_MAGIC and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"checkpoint {path} is cut short (an interrupted copy or save); "
            "use an older one or fetch it again"
        )
    try:
        with _allow_list():
            checkpoint = torch.load(
                path,
                map_location,
                weights_only=True,
                mmap=mmap and magic == ZIP_MAGIC,
            )
    except _RefusedError as error:
        raise CheckpointError(_refusal(path, str(error))) from None
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if blocked:
            raise CheckpointError(_refusal(path, blocked[1])) from None
        raise CheckpointError(_unreadable(path, error)) from error
    except Exception as error:  # a damaged file can fail anywhere in the reader
        if isinstance(error, RuntimeError) and "CUDA" in str(error):
            raise  # about the device, not about the file
        raise CheckpointError(_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(checkpoint).__name__}, not a "
            "dictionary; save a state_dict or a dictionary around one"
        )
    return _plain(checkpoint)


def _refusal(path: Path, what: str) -> str:
    return (
        f"checkpoint {path} is refused: it asks for {what}, which is not on the "
        "allow-list and could run code; save it again from a process that you "
        "trust, with tensors, numbers and strings only"
    )


def _unreadable(path: Path, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0][:120]
    return (
        f"checkpoint {path} is damaged or is no PyTorch checkpoint ({reason}); "
        "use an older one or fetch it again"
    )


def save_checkpoint(obj: Any, path: str | os.PathLike) -> None:
    """Save with :func:`torch.save`, so that ``path`` is complete or untouched.

    Args:
        obj: What to save; :func:`load_checkpoint` reads dictionaries.
        path: Target file. Its folder is created; an old file is replaced at the end.
    """
    with replacing(path) as temporary:
        torch.save(obj, temporary)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, written under another name and then renamed.

    A process killed while it saves leaves the previous file of that name whole.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :class:`mmengine.fileio.LocalBackend`."""
        with replacing(filepath) as temporary:
            super().put(obj, temporary)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text; see :class:`mmengine.fileio.LocalBackend`."""
        with replacing(filepath) as temporary:
            super().put_text(obj, temporary, encoding)


def latest_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """Find the checkpoint that a run in ``work_dir`` wrote last.

    Args:
        work_dir: Folder of the run, with MMEngine's ``last_checkpoint`` file. It may
            have been moved since: the checkpoint is then looked for inside it.

    Returns:
        Path of the checkpoint, or None where none was written yet. The file is not
        opened, and one that has been deleted is named all the same.
    """
    pointer = Path(work_dir, "last_checkpoint")
    name = pointer.read_text().strip() if pointer.is_file() else ""
    if not name:
        return None
    beside = pointer.with_name(Path(name).name)
    return beside if beside.is_file() else Path(name)


# --- MMEngine's extension points --------------------------------------------------


def register_atomic_writer() -> None:
    """Let MMEngine write local files atomically in this process."""
    register_backend("local", AtomicLocalBackend, force=True, prefixes="")


def dataset_meta(checkpoint: Mapping) -> dict[str, Any]:
    """What a checkpoint says of its data set.

    Args:
        checkpoint: A loaded checkpoint of MMEngine, or of an OpenMMLab before it.

    Returns:
        ``classes`` and ``palette``, as far as they are known.
    """
    meta = checkpoint.get("meta") or {}
    saved = meta.get("dataset_meta") or {"classes": meta.get("CLASSES")}
    return {
        key.lower(): value
        for key, value in saved.items()
        if key.lower() in ("classes", "palette") and value is not None
    }


def register_safe_loader() -> None:
    """Let MMEngine load every checkpoint of this process with our allow-list.

    This covers ``load_from``, resuming and ``init_cfg=dict(type='Pretrained')``, for
    local files, http(s) links, ``torchvision://`` and ``open-mmlab://``. Calling it
    again changes nothing.
    """
    for prefixes, loader in (
        ("", load_from_local),
        (("http://", "https://"), load_from_http),
        (("modelzoo://", "torchvision://"), load_from_torchvision),
        (("open-mmlab://", "openmmlab://"), load_from_openmmlab),
        ("mmcls://", load_from_mmcls),
    ):
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=loader, force=True)


# MMEngine logs a loader's name from the eleventh character on, hence `load_from_`.


def load_from_local(filename: str, map_location: MapLocation = None) -> dict:
    """Load a local file; see :func:`load_checkpoint`."""
    return load_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: MapLocation = None) -> dict:
    """Download into torch's cache where it is not there yet, then load."""
    cached = Path(
        torch.hub.get_dir(), "checkpoints", Path(urlparse(filename).path).name
    )
    if is_main_process():
        _download(filename, cached)
    barrier()
    _download(filename, cached)  # on machines with another cache than the first one's
    return load_checkpoint(cached, map_location)


def _download(url: str, path: Path) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))


def load_from_torchvision(filename: str, map_location: MapLocation = None) -> dict:
    """Load torchvision's weights of that name, as in ``torchvision://resnet50``."""
    return _load_named(filename, get_torchvision_models(), map_location)


def load_from_openmmlab(filename: str, map_location: MapLocation = None) -> dict:
    """Load OpenMMLab's weights of that name, as in ``open-mmlab://vgg16_caffe``."""
    return _load_named(filename, get_external_models(), map_location)


def load_from_mmcls(filename: str, map_location: MapLocation = None) -> dict:
    """Refuse the retired scheme, whose stock loader unpickles anything."""
    raise CheckpointError(
        f"checkpoint {filename}: the scheme mmcls:// is retired; give the https link "
        "of the file instead"
    )


def _load_named(filename: str, urls: dict, map_location: MapLocation) -> dict:
    name = filename.split("://", 1)[1]
    if name not in urls:
        raise CheckpointError(f"checkpoint {filename}: MMEngine knows no such weights")
    return load_from_http(urls[name], map_location)
