"""Image files: found, read, resized and named in one way."""

import glob
import math
import sys
from collections import Counter
from pathlib import Path

import cv2
import mmcv
import numpy as np

from ..errors import warn

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "UnreadableImageError",
    "find_images",
    "limit_pixels",
    "read_image",
    "resize_shorter_side",
]

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}

# A photograph of 800 x 1333 passes. The time of CLUENet's and FEC's pooling grows with
# the square of the pixels.
MAX_PIXELS = 1_200_000


class UnreadableImageError(ValueError):
    """A file that is damaged or not an image."""


def find_images(source: str | Path, *exclude: Path) -> dict[str, Path]:
    """Images by the names of their results.

    Args:
        source: A file, which may have any suffix; a folder, of which all images are
            taken, those in subfolders too; or a pattern such as ``photos/*.jpg``.
        *exclude: Folders that are left out, where they lie in ``source``.

    Returns:
        Paths by their names below ``source``, without a suffix; with it, where two
        would have the same name.

    Raises:
        FileNotFoundError: The file does not exist, or the folder contains no image.
    """
    source = Path(source)
    if source.is_file():
        return {source.stem: source}
    if source.is_dir():
        folder, found = source, source.rglob("*")
    else:
        found = [Path(path) for path in glob.glob(str(source), recursive=True)]
        if not found:
            raise FileNotFoundError(
                f"cannot read images: {source} does not exist. Give a file, a folder "
                "or a pattern such as 'photos/*.jpg'"
            )
        folder = _fixed_part(source)
    files = [
        path
        for path in sorted(found)
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(path.resolve().is_relative_to(e.resolve()) for e in exclude)
    ]
    if not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise FileNotFoundError(
            f"cannot read images: {source} contains none. Give a folder with images "
            f"({suffixes})"
        )
    below = {path: path.relative_to(folder) for path in files}
    # An image may be called as another is without its suffix.
    uses = Counter(name.with_suffix("") for name in below.values())
    uses.update(below.values())
    return {
        str(name.with_suffix("") if uses[name.with_suffix("")] == 1 else name): path
        for path, name in below.items()
    }


def _fixed_part(pattern: Path) -> Path:
    """Folder of a pattern up to its first wildcard."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to ``(H, W, 3)`` uint8, RGB.

    Raises:
        UnreadableImageError: It cannot be decoded.
    """
    try:
        image = mmcv.imread(str(path))
    except cv2.error:  # of an empty file
        image = None
    if image is None:
        raise UnreadableImageError(
            f"cannot decode {path}: it is damaged or not an image"
        )
    return mmcv.bgr2rgb(image)


def limit_pixels(image: np.ndarray, max_pixels: int, name: str) -> np.ndarray:
    """Make an image smaller that has more pixels than a network shall see.

    Args:
        image: ``(H, W, C)`` or ``(H, W)`` uint8.
        max_pixels: Height times width, at most.
        name: Of the image, for the warning.

    Returns:
        The image, or one of the same proportion with ``max_pixels`` or fewer.
    """
    height, width = image.shape[:2]
    if height * width <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (height * width))
    size = (max(int(width * scale), 1), max(int(height * scale), 1))
    print(file=sys.stderr)  # a progress bar leaves its line open
    warn(
        f"{name} has {width} x {height} pixels: the network sees {size[0]} x {size[1]} "
        "(--max-pixels sets the limit; time grows with the square of the pixels)"
    )
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def resize_shorter_side(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image so that its shorter side has so many pixels.

    Pixels are averaged where an image shrinks, and interpolated bicubically where it
    grows.

    Args:
        image: ``(H, W, 3)`` uint8.
        side: Pixels of the shorter side; the other keeps the proportion, and is one
            pixel at least.
    """
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=kind)
