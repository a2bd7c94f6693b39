"""Mini-ImageNet for classification, from the files of the few-shot benchmark."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmpretrain.datasets import BaseDataset

from ..registry import DATASETS
from .split import check_split

CSV_FILES = ("train.csv", "val.csv", "test.csv")
TRAIN_FRACTION = 0.8
SPLIT_SEED = 1
LAYOUT = """expected layout:
  {root}/train.csv   columns filename,label (64 classes)
  {root}/val.csv     (16 other classes)
  {root}/test.csv    (20 other classes)
  {root}/images/     the files that the three name"""


@DATASETS.register_module()
class MiniImageNet(BaseDataset):
    """All classes of Mini-ImageNet, split within each class.

    The few-shot benchmark keeps its classes apart in three CSV files; CLUENet's
    release merges them: classes sorted by WordNet id are the labels, the rows of
    a class in the order of the files are permuted with
    ``numpy.random.RandomState(1)``, the first 80 % train and the rest is for
    validation. The original 600 images of 100 classes give the released 48,000 /
    12,000 split; other numbers follow the same rule.

    Args:
        data_root: Folder that holds the three CSV files and ``images/``.
        split: ``"train"`` or ``"val"``.
        pipeline: Transforms; a sample starts with ``img_path`` and ``gt_label``.
        indices: Only the first so many samples, or the samples at these positions.
        test_mode: Whether an image that cannot be read is an error.

    Raises:
        ValueError: If the split is unknown, or a CSV file is broken.
        FileNotFoundError: If a CSV file or an image is missing; the message names
            it and the layout.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        pipeline: Sequence = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
    ) -> None:
        check_split(split)
        self.split = split
        root = Path(data_root).expanduser()
        self._members = _read_members(root)
        super().__init__(
            ann_file="",
            metainfo={"classes": tuple(sorted(self._members))},
            data_root=str(root),
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
        )

    def load_data_list(self) -> list[dict]:
        """Split every class and check that the images are there."""
        images = Path(self.data_root) / "images"
        data_list = []
        for label, wordnet_id in enumerate(sorted(self._members)):
            for name in split_class(self._members[wordnet_id], self.split):
                data_list.append({"img_path": str(images / name), "gt_label": label})
        missing = [
            s["img_path"] for s in data_list if not Path(s["img_path"]).is_file()
        ]
        if missing:
            raise FileNotFoundError(
                f"cannot read Mini-ImageNet: {len(missing)} of {len(data_list)} images "
                f"are missing, such as {missing[0]}; "
                f"{LAYOUT.format(root=self.data_root)}"
            )
        return data_list


def split_class(names: Sequence[str], split: str) -> list[str]:
    """The train or val part of one class.

    Args:
        names: File names of the class, in the order of the CSV files.
        split: ``"train"`` or ``"val"``.

    Returns:
        The file names, in the permuted order.
    """
    rng = np.random.RandomState(SPLIT_SEED)
    order = rng.choice(len(names), len(names), replace=False)
    num_train = int(TRAIN_FRACTION * len(names))
    chosen = order[:num_train] if split == "train" else order[num_train:]
    return [names[i] for i in chosen]


def _read_members(root: Path) -> dict[str, list[str]]:
    """File names of every WordNet id, merged from the three CSV files."""
    members = defaultdict(list)
    for file in (root / name for name in CSV_FILES):
        if not file.is_file():
            raise FileNotFoundError(
                f"cannot read {file}: not found; {LAYOUT.format(root=root)}"
            )
        with file.open(newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"filename", "label"} <= set(reader.fieldnames or ()):
                raise ValueError(
                    f"cannot read {file}: it lacks the columns filename,label"
                )
            for row in reader:
                if not row["filename"] or not row["label"]:
                    raise ValueError(
                        f"cannot read {file}: line {reader.line_num} has an empty field"
                    )
                members[row["label"]].append(row["filename"])
    return members
