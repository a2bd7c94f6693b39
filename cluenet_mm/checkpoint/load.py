"""Load a checkpoint, and read its parts."""

import os
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from .safe import CheckpointError, MapLocation, read
from .schemes import SCHEMES, checkpoint_file

_MAPPINGS = ("state_dict", "meta", "meta.options", "meta.dataset_meta")
_CLASSES = ("meta.dataset_meta.classes", "meta.dataset_meta.CLASSES", "meta.CLASSES")


def load_checkpoint(
    address: str | os.PathLike, map_location: MapLocation = "cpu", mmap: bool = False
) -> dict[str, Any]:
    """Load a checkpoint without running any code that it contains.

    Args:
        address: Local file as written by MMEngine or ``torch.save``, or an address that
            :func:`~cluenet_mm.checkpoint.checkpoint_file` knows, such as
            ``cluenet_mm://NAME`` or a link.
        map_location: Where tensors go, as in :func:`torch.load`.
        mmap: Whether tensors stay in the file until they are used, for a look at the
            rest; the checksums of the file are not verified then.

    Returns:
        The dictionary in the file. NumPy values come back as such, paths as pure
        paths, and ``HistoryBuffer`` with MMEngine's own statistics methods. Published
        weights, which are kept in half precision, come back in fp32.

    Raises:
        MissingCheckpointError: There is no such file; a FileNotFoundError, too.
        CheckpointError: The file is empty, cut short, damaged, no checkpoint, has a
            part of a wrong type, or holds an object that is not on the allow-list. The
            message names the file.
    """
    path = checkpoint_file(address)
    try:
        checkpoint = read(path, map_location, mmap)
    except CheckpointError:
        # Not a web page for ever, where a link gave one; a hash was verified before.
        if "://" in os.fspath(address) and path.parent.name == "cluenet_mm":
            path.unlink(missing_ok=True)
        raise
    _check_parts(checkpoint, address)
    if "published" in checkpoint.get("meta", {}):
        weights = checkpoint.get("state_dict", {})
        for name, value in weights.items():
            if isinstance(value, Tensor) and value.dtype == torch.float16:
                weights[name] = value.float()
    return checkpoint


def register_safe_loader() -> None:
    """Let MMEngine load every checkpoint of this process with :func:`load_checkpoint`.

    This covers ``load_from``, resuming and ``init_cfg=dict(type='Pretrained')``, for
    files and for all addresses of ``SCHEMES``. Calling it again changes nothing.
    """
    for prefix in ("", *(f"{scheme}://" for scheme in SCHEMES)):
        CheckpointLoader.register_scheme(prefix, load_from_cluenet_mm, force=True)


# MMEngine logs a loader's name from the eleventh character on, hence `load_from_`.
def load_from_cluenet_mm(filename: str, map_location: MapLocation = None) -> dict:
    """Load for MMEngine; see :func:`load_checkpoint`."""
    return load_checkpoint(filename, map_location)


def _check_parts(checkpoint: Mapping, source: str | os.PathLike) -> None:
    """Refuse a checkpoint whose parts are not what MMEngine writes."""
    for name in _MAPPINGS:
        value = part(checkpoint, name, {})
        unknown = name == "meta.dataset_meta" and value is None
        if not (unknown or isinstance(value, Mapping)):
            raise wrong_part(source, name, value, "a dictionary")
    for name in checkpoint.get("state_dict", {}):
        if not isinstance(name, str):
            raise wrong_part(source, "a name in state_dict", name, "a string")
    for name in _CLASSES:
        value = part(checkpoint, name)
        if value is not None and not isinstance(value, list | tuple):
            raise wrong_part(source, name, value, "a list of names")


def part(checkpoint: Mapping, name: str, default: Any = None) -> Any:
    """A part by its path with dots; what it lies in has been checked."""
    *folders, last = name.split(".")
    inner = reduce(lambda node, key: node.get(key) or {}, folders, checkpoint)
    return inner.get(last, default)


def wrong_part(
    source: str | os.PathLike, part: str, value: object, expected: str
) -> CheckpointError:
    """The error for a part of another type."""
    shown = repr(value)
    if isinstance(value, list | dict) or len(shown) > 40:
        shown = f"a {type(value).__name__}"
    return CheckpointError(
        f"cannot use checkpoint {source}: {part} is {shown}, not {expected}. Use "
        "another checkpoint."
    )


def dataset_meta(checkpoint: Mapping) -> dict[str, Any]:
    """What a checkpoint says of its dataset.

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
