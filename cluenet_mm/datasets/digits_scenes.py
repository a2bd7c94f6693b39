"""Scenes of several handwritten digits: dense prediction without a download.

The scenes are made from scikit-learn's digits (:class:`Digits`) on first use, the same
ones everywhere. A folder of them holds, for the splits ``train`` and ``val``::

    images/{split}/0000.png               128 x 128 RGB
    semantic/{split}/0000.png             labels: 0 background, d + 1 digit d
    annotations/instances_{split}.json    COCO: boxes and masks, category d + 1
    panoptic/{split}/0000.png             COCO: the colors are the ids of segments
    annotations/panoptic_{split}.json     their categories: d + 1, and 11 the background

A pixel belongs to one digit at most, so the semantic map is the union of the instances,
and the panoptic one the instances on one segment of background.
"""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as rle

from .digits import Digits
from .panoptic_png import rgb_to_id, write_panoptic

DIGITS = tuple("0123456789")
PALETTE = [
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (0, 128, 128),
]
BACKGROUND = (64, 64, 64)

# The scenes are part of the dataset's definition: who changes them, changes this.
VERSION = "cluenet_mm digits scenes, version 2\n"
NUM_SCENES = {"train": 400, "val": 100}
SEEDS = {"train": 1, "val": 2}
IMAGE_SIZE = 128
DIGITS_PER_SCENE = (4, 8)
DIGIT_SIZES = (28, 40)
MAX_ROTATION = 5
# Ink above this fraction belongs to the digit.
INK = 0.4


class Scene(NamedTuple):
    """One scene.

    Attributes:
        image: ``(128, 128, 3)`` uint8, RGB.
        masks: ``(128, 128)`` bool, one a digit; they do not overlap.
        digits: Class of each mask.
    """

    image: np.ndarray
    masks: list[np.ndarray]
    digits: list[int]

    @property
    def semantic(self) -> np.ndarray:
        """Label of every pixel, uint8: 0 background, ``d + 1`` digit ``d``."""
        labels = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        for mask, digit in zip(self.masks, self.digits, strict=True):
            labels[mask] = digit + 1
        return labels


def prepare_scenes(root: str | Path) -> None:
    """Make the scenes unless they are there: a few seconds.

    Processes may do so at once, and may be interrupted: the folder appears when it is
    complete, and who comes second keeps it.

    Args:
        root: Folder to make.

    Raises:
        FileExistsError: The folder is there and holds something else.
    """
    root = Path(root).expanduser()
    if not (root.is_dir() and any(root.iterdir())):
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as scratch:
            made = Path(scratch, root.name)
            write_scenes(made)
            try:
                os.replace(made, root)
            except OSError:  # another process was faster
                if not _is_complete(root):
                    raise
    if not _is_complete(root):
        raise FileExistsError(
            f"cannot write digit scenes: {root} contains other files, or scenes of an "
            "older version. Delete it, or set data_root to another folder"
        )


def _is_complete(root: Path) -> bool:
    version = root / "VERSION"
    return version.is_file() and version.read_text() == VERSION


def write_scenes(root: Path) -> None:
    """Write both splits into a new folder, see the module for its layout."""
    (root / "annotations").mkdir(parents=True)
    for split in NUM_SCENES:
        for kind in ("images", "semantic", "panoptic"):
            (root / kind / split).mkdir(parents=True)
        images, annotations, segmentations = [], [], []
        for number, scene in enumerate(make_scenes(split)):
            name = f"{number:04d}.png"
            _write_png(root / "images" / split / name, scene.image[..., ::-1])
            _write_png(root / "semantic" / split / name, scene.semantic)
            ids, segments = _segments(scene)
            write_panoptic(root / "panoptic" / split / name, ids)
            segmentations.append(
                {"image_id": number, "file_name": name, "segments_info": segments}
            )
            images.append(
                {
                    "id": number,
                    "file_name": name,
                    "height": IMAGE_SIZE,
                    "width": IMAGE_SIZE,
                }
            )
            for mask, digit in zip(scene.masks, scene.digits, strict=True):
                entry = _annotation(mask, digit)
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, **entry}
                )
        for kind, categories, content in (
            ("instances", _categories(), annotations),
            ("panoptic", _panoptic_categories(), segmentations),
        ):
            coco = {
                "info": {"description": VERSION.strip()},
                "licenses": [{"id": 1, "name": "CC BY 4.0 (digits: UCI)"}],
                "categories": categories,
                "images": images,
                "annotations": content,
            }
            path = root / "annotations" / f"{kind}_{split}.json"
            path.write_text(json.dumps(coco))
    (root / "VERSION").write_text(VERSION)


def _categories() -> list[dict]:
    return [{"id": int(d) + 1, "name": d} for d in DIGITS]


def _panoptic_categories() -> list[dict]:
    things = [
        {**category, "supercategory": "digit", "isthing": 1, "color": list(color)}
        for category, color in zip(_categories(), PALETTE, strict=True)
    ]
    stuff = {
        "id": len(DIGITS) + 1,
        "name": "background",
        "supercategory": "background",
        "isthing": 0,
        "color": list(BACKGROUND),
    }
    return [*things, stuff]


def _segments(scene: Scene) -> tuple[np.ndarray, list[dict]]:
    """Ids of the segments by pixel, and COCO's description of the segments."""
    ids = np.full((IMAGE_SIZE, IMAGE_SIZE), rgb_to_id(np.array(BACKGROUND)), np.int32)
    parts = [(scene.semantic == 0, len(DIGITS))]
    for number, (mask, digit) in enumerate(zip(scene.masks, scene.digits, strict=True)):
        # Shades of the class, so that two digits of a class differ.
        ids[mask] = rgb_to_id(np.array(PALETTE[digit])) ^ number
        parts.append((mask, digit))
    segments = []
    for mask, category in parts:
        entry = _annotation(mask, category)
        del entry["segmentation"]
        segments.append({"id": int(ids[mask][0]), **entry})
    return ids, segments


def _annotation(mask: np.ndarray, digit: int) -> dict:
    code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "category_id": digit + 1,
        "bbox": rle.toBbox(code).tolist(),
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {
            "size": list(mask.shape),
            "counts": code["counts"].decode("ascii"),
        },
    }


def _write_png(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"cannot write {path}")


def make_scenes(split: str) -> list[Scene]:
    """Make the scenes of a split in memory; train and val share no handwritten digit.

    Args:
        split: ``"train"`` or ``"val"``.
    """
    digits = Digits(split)
    rng = np.random.default_rng(SEEDS[split])
    return [_make_scene(digits, rng) for _ in range(NUM_SCENES[split])]


def _make_scene(digits: Digits, rng: np.random.Generator) -> Scene:
    image = _texture(rng)
    taken = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    masks, classes = [], []
    wanted = rng.integers(*DIGITS_PER_SCENE, endpoint=True)
    while len(masks) < wanted:
        digit = digits[int(rng.integers(len(digits)))]
        ink = _place(digit["img"][..., 0], rng)
        mask = ink >= INK
        if (mask & taken).any():
            continue
        color = rng.uniform(190, 255, 3)
        image += ink[..., None] * (color - image)
        masks.append(mask)
        classes.append(digit["gt_label"])
        # Neighbors keep a pixel between them.
        taken |= cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    return Scene(np.clip(np.rint(image), 0, 255).astype(np.uint8), masks, classes)


def _place(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A digit at a random place, size and angle: ``(128, 128)`` ink in [0, 1]."""
    size = rng.uniform(*DIGIT_SIZES)
    angle = rng.uniform(-MAX_ROTATION, MAX_ROTATION)
    center = rng.uniform(size / 2, IMAGE_SIZE - size / 2, 2)
    middle = (len(image) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, size / len(image))
    matrix[:, 2] += center - middle
    ink = cv2.warpAffine(image, matrix, (IMAGE_SIZE, IMAGE_SIZE))
    return ink.astype(np.float64) / 255


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Colored noise of three wavelengths: ``(128, 128, 3)`` floats."""
    image = np.ones((IMAGE_SIZE, IMAGE_SIZE, 3)) * rng.uniform(10, 70, 3)
    for cells in (4, 12, 40):
        noise = rng.normal(scale=8, size=(cells, cells, 3))
        image += cv2.resize(noise, (IMAGE_SIZE,) * 2, interpolation=cv2.INTER_CUBIC)
    return image
