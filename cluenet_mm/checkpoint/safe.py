"""Checkpoint files: safe to read, never half-written.

Reading runs ``torch.load(weights_only=True)``, whose unpickler calls nothing that
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
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer, print_log

from ..files import atomic_write

MapLocation = str | torch.device | Callable | dict | None


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and what to do."""


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


# --- reading and writing ----------------------------------------------------------


def read(
    path: Path, map_location: MapLocation = "cpu", mmap: bool = False
) -> dict[str, Any]:
    """Read a file without running any code that it contains.

    The checksums of the archive are verified, which ``torch.load`` does not do.

    Args:
        path: Local file, as written by MMEngine or ``torch.save``.
        map_location: Where tensors go, as in :func:`torch.load`.
        mmap: Whether tensors stay in the file until they are used, for a look at the
            rest; checksums are not verified then. Files in the format before PyTorch
            1.6 are read all the same.

    Returns:
        The dictionary in the file.

    Raises:
        MissingCheckpointError: There is no such file.
        CheckpointError: The file is empty, cut short, damaged, no checkpoint, or holds
            an object that is not on the allow-list.
    """
    if isinstance(map_location, str):
        torch.device(map_location)  # a misspelt device is no fault of the file
    is_archive = _check_file(path, checksums=not mmap)
    try:
        with _allow_list():
            checkpoint = _plain(
                torch.load(
                    path, map_location, weights_only=True, mmap=mmap and is_archive
                )
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
    if not is_archive:
        print_log(
            f"checkpoint {path} has the format of PyTorch before 1.6, without "
            "checksums: a changed byte in it would not be noticed",
            logger="current",
            level=logging.WARNING,
        )
    return checkpoint


def _check_file(path: Path, checksums: bool) -> bool:
    """Refuse a file that is not there or not whole; say whether it is an archive."""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise MissingCheckpointError(
                f"checkpoint {path} {what}; give the path of a .pth file"
            )
        with path.open("rb") as file:
            magic = file.read(4)
    except MissingCheckpointError:
        raise
    except OSError as error:  # such as a name that is too long, or missing rights
        raise MissingCheckpointError(
            f"checkpoint {path} cannot be opened ({error.strerror}); give the path of "
            "a .pth file"
        ) from error
    if not magic:
        raise CheckpointError(
            f"checkpoint {path} is empty; use an older one or fetch it again"
        )
    if magic != b"PK\x03\x04":
        return False
    try:
        whole, damaged = zipfile.is_zipfile(path), None
        if whole and checksums:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
    except Exception as error:  # as above
        raise CheckpointError(_unreadable(path, error)) from error
    if not whole:
        raise CheckpointError(
            f"checkpoint {path} is cut short (an interrupted copy or save); "
            "use an older one or fetch it again"
        )
    if damaged:
        raise CheckpointError(
            f"checkpoint {path} is damaged: the checksum of {damaged} in it is wrong; "
            "use an older one or fetch it again"
        )
    return True


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
        obj: What to save; :func:`~cluenet_mm.checkpoint.load_checkpoint` reads
            dictionaries.
        path: Target file. Its folder is created; an old file is replaced at the end.
    """
    with atomic_write(path) as temporary:
        torch.save(obj, temporary)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, written under another name and then renamed.

    A process killed while it saves leaves the previous file of that name whole.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :class:`mmengine.fileio.LocalBackend`."""
        with atomic_write(filepath) as temporary:
            super().put(obj, temporary)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text; see :class:`mmengine.fileio.LocalBackend`."""
        with atomic_write(filepath) as temporary:
            super().put_text(obj, temporary, encoding)


def register_atomic_writer() -> None:
    """Let MMEngine write local files atomically in this process."""
    register_backend("local", AtomicLocalBackend, force=True, prefixes="")
