"""COCO's panoptic PNGs: the color of a pixel is the number of its segment.

A segment's id is ``R + 256 G + 256^2 B``; 0 belongs to no segment.
"""

from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import get

from ..files import atomic_write

__all__ = ["id_to_rgb", "read_panoptic", "rgb_to_id", "write_panoptic"]


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """Ids of segments, ``(H, W)`` int32, of colors ``(H, W, 3)`` uint8."""
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    return red + 256 * green + 256**2 * blue


def id_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Colors, ``(H, W, 3)`` uint8, of ids ``(H, W)`` below ``256**3``."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)


def read_panoptic(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read the ids of a file, ``(H, W)`` int32.

    Args:
        path: PNG file, in any place that MMEngine reads from.
        backend_args: Options of MMEngine's file backend.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an image.
    """
    content = get(path, backend_args=backend_args)
    data = np.frombuffer(content, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise ValueError(f"cannot decode panoptic labels {path}. Download them again")
    return rgb_to_id(image[..., ::-1])


def write_panoptic(path: str | Path, ids: np.ndarray) -> None:
    """Write ids, ``(H, W)`` below ``256**3``; the file is complete or untouched.

    Raises:
        WriteError: The file cannot be written.
    """
    encoded = cv2.imencode(".png", id_to_rgb(ids)[..., ::-1])[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded)
