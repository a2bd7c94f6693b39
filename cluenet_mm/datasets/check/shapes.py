"""What is wrong with a box or a mask of COCO.

What pycocotools is given it does not question: a mask of another size than its image
ends the process.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

# COCO's own boxes leave their image by rounding.
_TOLERANCE = 1.0
# In longer sides of the image: what is further outside is in other units, or nonsense.
_FAR = 2


def box_fault(annotation: Mapping, image: Mapping) -> str:
    """What is wrong with the box of an object or segment, if anything."""
    box, area = annotation.get("bbox"), annotation.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return "box is not four numbers"
    if not is_number(area):
        return "area is not a number"
    x, y, width, height = box
    if width < 0 or height < 0:
        return "box has a negative size"
    if width == 0 or height == 0 or area <= 0:
        return "object has no area"
    right, bottom = x + width - image["width"], y + height - image["height"]
    outside = max(-x, -y, right, bottom)
    if outside > _FAR * max(image["width"], image["height"]):
        return "box lies far outside its image"
    return "box reaches outside its image" if outside > _TOLERANCE else ""


def mask_fault(segmentation: Any, image: Mapping) -> str:
    """What is wrong with a mask, polygons or run-length encoding, if anything."""
    if not segmentation and not isinstance(segmentation, int | float):
        return "object has no mask"
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, image)
    if not isinstance(segmentation, list):
        return "mask is neither polygons nor RLE"
    for polygon in segmentation:
        if fault := _polygon_fault(polygon, image):
            return fault
    short = [len(polygon) < 6 for polygon in segmentation]
    if all(short):
        return "object has no mask"
    return "polygon has less than three points" if any(short) else ""


def _polygon_fault(polygon: Any, image: Mapping) -> str:
    # Sums and extremes run in C, and know all that are not numbers.
    try:
        if not isinstance(polygon, list) or not isfinite(sum(polygon)):
            return "polygon is not a list of numbers"
    except (OverflowError, TypeError):
        return "polygon is not a list of numbers"
    if len(polygon) % 2:
        return "polygon has an odd number of coordinates"
    side = max(image["width"], image["height"])
    if polygon and (min(polygon) < -_FAR * side or max(polygon) > (_FAR + 1) * side):
        return "polygon lies far outside its image"
    return ""


def _rle_fault(rle: Mapping, image: Mapping) -> str:
    counts, size = rle.get("counts"), rle.get("size")
    if size != [image["height"], image["width"]]:
        return "mask has another size"
    if isinstance(counts, str):
        counts = rle_lengths(counts)
    elif isinstance(counts, list):
        whole = all(type(count) is int and count >= 0 for count in counts)
        counts = counts if whole else None
    elif counts is None:
        return "RLE has no counts"
    else:
        counts = None
    if counts is None or any(count < 0 for count in counts):
        return "RLE counts are broken"
    if sum(counts) != size[0] * size[1]:
        return "RLE has another length than its image"
    return ""


def rle_lengths(counts: str) -> list[int] | None:
    """Lengths of the runs of COCO's compressed RLE.

    A number is written in characters of five bits, from 48 on, lowest bits first: 32
    says that more follow, and the 16 of the last is the sign. From the fourth on, the
    number is the difference to the last but one.

    Returns:
        None if the text is not such a code; a number may be negative.

    Example:
        >>> rle_lengths("52203")
        [5, 2, 2, 2, 5]
    """
    try:
        codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return None
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    if digits.max() > 7:  # 35 bits, and pycocotools has 32
        return None
    places = np.arange(codes.size) - np.repeat(starts, digits)
    values = np.add.reduceat((codes & 31) << 5 * places, starts)
    values -= np.where(codes[ends] & 16, 1 << 5 * digits, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and abs(value) < float("inf")
