"""CIFAR-100 from its archive or from class strips to arrays."""

import hashlib
import io
import pickle
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..files import replacing

SIDE = 32
SPLITS = ("train", "test")
ARCHIVE = "cifar-100-python.tar.gz"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
SOURCES = (
    f"a source is {ARCHIVE}, a folder with it, or a folder with class strips "
    "train/<label>_<name>.webp and test/..."
)


class Images(NamedTuple):
    """One split: images (uint8, N x 3 x 32 x 32, RGB) and labels (int64, N)."""

    images: np.ndarray
    labels: np.ndarray


class Source(NamedTuple):
    """What a source holds.

    Attributes:
        kind: ``"official archive"``, ``"archive"`` (another checksum) or ``"strips"``.
        md5: Checksum of the archive, or of all strips in order.
        classes: Names in the order of the labels.
        splits: The images of ``"train"`` and ``"test"``.
    """

    kind: str
    md5: str
    classes: list[str]
    splits: dict[str, Images]


def read_source(path: Path) -> Source:
    """Read all images of a source.

    Args:
        path: The official archive ``cifar-100-python.tar.gz``, a folder that holds it,
            or a folder with class strips (see tools/convert/cifar100_strips.py).

    Raises:
        FileNotFoundError: There is no source at this path.
        ValueError: A file of it is damaged or holds something else.
    """
    if path.is_dir() and (path / ARCHIVE).is_file():
        path = path / ARCHIVE
    if path.is_file():
        source = _read_archive(path)
    elif any(path.glob("train/*.webp")):
        source = _read_strips(path)
    else:
        what = "holds no CIFAR-100" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; {SOURCES}")
    for split, (images, labels) in source.splits.items():
        fits = images.shape == (len(labels), 3, SIDE, SIDE)
        known = len(labels) and 0 <= labels.min() <= labels.max() < len(source.classes)
        if not (fits and images.dtype == np.uint8 and known):
            raise ValueError(f"{path}: its {split} images and labels do not fit")
    return source


def prepare(source: Source, folder: Path, classes: int) -> dict[str, int]:
    """Write the files of :class:`TensorImages`, ``train.npz`` and ``test.npz``.

    Args:
        source: Where the images come from.
        folder: Made where it is missing. A file appears once it is complete.
        classes: Number of classes, those with the first labels.

    Returns:
        Number of images by split.
    """
    counts = {}
    for split in SPLITS:
        images, labels = source.splits[split]
        chosen = labels < classes
        counts[split] = int(chosen.sum())
        with (
            replacing(folder / f"{split}.npz") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(
                file,
                images=images[chosen],
                labels=labels[chosen],
                classes=np.array(source.classes[:classes]),
            )
    return counts


# --- class strips -----------------------------------------------------------------


def _read_strips(folder: Path) -> Source:
    splits, names, checksum = {}, {}, hashlib.md5(usedforsecurity=False)
    for split in SPLITS:
        images, labels = [], []
        for path in sorted((folder / split).glob("*.webp")):
            named = re.fullmatch(r"(\d+)_(.+)", path.stem)
            if not named:
                raise ValueError(f"{path} is not named <label>_<name>.webp")
            label = int(named[1])
            if names.setdefault(label, named[2]) != named[2]:
                raise ValueError(f"{path}: label {label} is {names[label]} elsewhere")
            data = path.read_bytes()
            checksum.update(data)
            images.append(_read_strip(path, data))
            labels += [label] * len(images[-1])
        if not images:
            raise FileNotFoundError(f"{folder / split} holds no strips; {SOURCES}")
        splits[split] = Images(np.concatenate(images), np.array(labels, np.int64))
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"{folder}: strips are missing, its labels have gaps")
    classes = [names[label] for label in sorted(names)]
    return Source("strips", checksum.hexdigest(), classes, splits)


def _read_strip(path: Path, data: bytes) -> np.ndarray:
    try:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except OSError as error:
        raise ValueError(f"strip {path} cannot be read: {error}") from error
    height, width, _ = pixels.shape
    if width != SIDE or height % SIDE:
        raise ValueError(
            f"strip {path} is {width} x {height}, not {SIDE} wide and a multiple of "
            f"{SIDE} high"
        )
    return pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2)


# --- the official archive ---------------------------------------------------------


def _read_archive(path: Path) -> Source:
    packed = path.read_bytes()
    md5 = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for name in (*SPLITS, "meta"):
                file = archive.extractfile(f"cifar-100-python/{name}")
                members[name] = _unpickle(file.read())
        classes = [_text(name) for name in members["meta"]["fine_label_names"]]
        splits = {}
        for split in SPLITS:
            images = members[split]["data"].values.reshape(-1, 3, SIDE, SIDE)
            labels = np.array(members[split]["fine_labels"], np.int64)
            splits[split] = Images(images, labels)
    except (
        *(tarfile.TarError, zlib.error, EOFError, OSError, pickle.UnpicklingError),
        *(AttributeError, IndexError, KeyError, TypeError, ValueError),
    ) as error:  # a damaged file can fail anywhere in the readers
        raise ValueError(
            f"archive {path} is damaged or is not CIFAR-100's "
            f"({type(error).__name__}: {error}); fetch it again (MD5 {ARCHIVE_MD5})"
        ) from error
    kind = "official archive" if md5 == ARCHIVE_MD5 else "archive"
    return Source(kind, md5, classes, splits)


def _unpickle(data: bytes) -> dict[str, Any]:
    """Read a file of the archive, which no code can be hidden in."""
    content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    return {_text(key): value for key, value in content.items()}


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


class _Bytes:
    """Stands for NumPy's dtype: nothing but uint8."""

    def __init__(self, code: str | bytes, align: int = 0, copy: int = 0) -> None:
        if _text(code) != "u1":
            raise pickle.UnpicklingError(f"NumPy dtype {code!r} instead of uint8")

    def __setstate__(self, state: tuple) -> None:
        """Byte order and flags say nothing about uint8."""


class _Array:
    """Stands for a NumPy array of uint8; ``values`` holds it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Bytes) or not isinstance(data, bytes) or fortran:
            raise pickle.UnpicklingError("a NumPy array of unknown layout")
        self.values = np.frombuffer(data, np.uint8).reshape(shape)


def _reconstruct(subtype: type, shape: tuple, dtype: bytes) -> _Array:
    """Stands for NumPy's function of that name; the state brings the rest."""
    return _Array()


class _Unpickler(pickle.Unpickler):
    """Knows arrays of uint8, lists, numbers and text, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """Give the stand-in of what the file names."""
        core = module in ("numpy.core.multiarray", "numpy._core.multiarray")
        if core and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return {"ndarray": _Array, "dtype": _Bytes}[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
