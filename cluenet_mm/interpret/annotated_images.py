"""Photographs with the areas that people drew, for measuring clusters."""

from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.mask import area

from ..datasets.digits_scenes import prepare_scenes
from ..inference.images import read_image, resize_shorter_side
from .pixels import evenly_spaced

DATASETS = ("digits", "coco", "camvid")
_CAMVID_UNLABELED = 11
_UNKNOWN = -1


class AnnotatedImage(NamedTuple):
    """One photograph.

    Attributes:
        name: Name of its file, without suffix.
        image: ``(H, W, 3)`` uint8, RGB.
        truth: ``(H, W)`` int64, the area of each pixel; -1 where nothing is known.
        background: Label of the area outside all objects, or None.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    background: int | None

    def resized(self, side: int) -> "AnnotatedImage":
        """The same with a shorter side of so many pixels."""
        image = resize_shorter_side(self.image, side)
        truth = cv2.resize(
            self.truth.astype(np.int32),
            image.shape[1::-1],
            interpolation=cv2.INTER_NEAREST_EXACT,
        )
        return self._replace(image=image, truth=truth.astype(np.int64))


def annotated_images(
    dataset: str, root: str | Path, split: str = "val", limit: int | None = None
) -> Iterator[AnnotatedImage]:
    """Images of a dataset, spread evenly over it.

    Args:
        dataset: ``digits``, the scenes of ``DigitsInstances``, made in ``root`` on
            first use; ``coco``, with ``root/{split}2017`` and
            ``root/annotations/instances_{split}2017.json``; or ``camvid``, with
            ``root/images/{split}`` and ``root/annotations/{split}``.
        root: Folder of the dataset.
        split: ``train`` or ``val``.
        limit: At most so many images.

    Yields:
        Objects as areas over the background, area 0, the smaller in front of the
        larger, crowds unknown; of CamVid the classes, and no background.

    Raises:
        FileNotFoundError: The dataset is not there.
        ValueError: The dataset is unknown, or a file of it is damaged.
    """
    root = Path(root).expanduser()
    if dataset == "digits":
        prepare_scenes(root)
        folder, names = root / "images" / split, f"instances_{split}.json"
        yield from _coco(folder, root / "annotations" / names, limit)
    elif dataset == "coco":
        names = f"instances_{split}2017.json"
        yield from _coco(root / f"{split}2017", root / "annotations" / names, limit)
    elif dataset == "camvid":
        yield from _camvid(root, split, limit)
    else:
        raise ValueError(f"dataset must be one of {DATASETS}, not {dataset!r}")


def _coco(folder: Path, file: Path, limit: int | None) -> Iterator[AnnotatedImage]:
    if not file.is_file():
        raise FileNotFoundError(
            f"cannot read coco: {file} does not exist. docs/datasets.md has the layout"
        )
    with redirect_stdout(StringIO()):  # COCO() prints
        coco = COCO(str(file))
    entries = coco.loadImgs(sorted(coco.getImgIds()))
    if not entries:
        raise ValueError(f"cannot read coco: {file} lists no images")
    for position in evenly_spaced(len(entries), limit):
        entry = entries[position]
        truth = np.zeros((entry["height"], entry["width"]), np.int64)
        objects = coco.loadAnns(coco.getAnnIds(entry["id"]))
        # Crowds first: an object that lies before one is known.
        objects.sort(key=lambda o: (not o.get("iscrowd"), -area(coco.annToRLE(o))))
        for number, annotation in enumerate(objects, start=1):
            mask = coco.annToMask(annotation).astype(bool)
            truth[mask] = _UNKNOWN if annotation.get("iscrowd") else number
        path = folder / entry["file_name"]
        yield AnnotatedImage(path.stem, _read(path, truth), truth, background=0)


def _camvid(root: Path, split: str, limit: int | None) -> Iterator[AnnotatedImage]:
    folder = root / "annotations" / split
    files = sorted(folder.glob("*.png"))
    if not files:
        raise FileNotFoundError(
            f"cannot read camvid: {folder} contains no label maps. docs/datasets.md "
            "has the layout"
        )
    for position in evenly_spaced(len(files), limit):
        labels = cv2.imread(str(files[position]), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2:
            raise ValueError(
                f"cannot read {files[position]}: it is not a label map of one channel"
            )
        truth = labels.astype(np.int64)
        truth[truth >= _CAMVID_UNLABELED] = _UNKNOWN
        name = files[position].stem
        found = sorted((root / "images" / split).glob(f"{name}.*"))
        if not found:
            raise FileNotFoundError(f"cannot find the image of {files[position]}")
        yield AnnotatedImage(name, _read(found[0], truth), truth, background=None)


def _read(path: Path, truth: np.ndarray) -> np.ndarray:
    image = read_image(path)
    if image.shape[:2] != truth.shape:
        raise ValueError(
            f"cannot compare {path}: it has {image.shape[:2]} pixels, its annotation "
            f"{truth.shape}"
        )
    return image
