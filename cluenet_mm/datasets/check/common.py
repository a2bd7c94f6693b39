"""What the checks of all tasks share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from PIL import Image

from ...config import (
    PLACES,
    inner_datasets,
    metrics_of,
    num_classes,
    preprocessor_of,
    type_name,
)
from ..digits_scenes import prepare_scenes
from ..scenes_dataset import ScenesDataset

_EXIF_ORIENTATION = 0x0112
# OpenCV decodes no larger image.
MAX_PIXELS = 2**30

Progress = Callable[[Iterable, int], Iterable]


class DatasetError(ValueError):
    """A dataset that cannot be opened; the message is one line."""


@dataclass
class Report:
    """What was found in one dataset.

    Attributes:
        name: The split.
        kind: Type of the dataset.
        counts: How many there are, by what.
        unit: What the histogram counts.
        histogram: Number by class, in the order of the labels.
        faults: Where, by kind of fault.
        notes: What a user wants to know and is not a fault.
        source: File of annotations or folder of images.
    """

    name: str
    kind: str
    counts: dict[str, int] = field(default_factory=dict)
    unit: str = "images"
    histogram: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    source: str = ""

    def fault(self, kind: str, where: object) -> None:
        """Note a fault."""
        self.faults.setdefault(kind, []).append(str(where))

    def count_classes(self, classes: Iterable, numbers: Mapping[int, int]) -> None:
        """Fill the histogram, also with the classes of which there is nothing."""
        for label, name in enumerate(classes):
            self.histogram[str(name)] = int(numbers.get(label, 0))


@dataclass(frozen=True)
class Options:
    """How to check.

    Attributes:
        decode: Whether to decode every image, or only to see that it is there. Label
            maps are always decoded.
        workers: Threads that read files.
        progress: Wraps an iterable of so many items.
    """

    decode: bool = True
    workers: int = 4
    progress: Progress = lambda items, total: items


def data_sets(cfg: Config, split: str) -> list[dict]:
    """Settings of the datasets of a split, taken out of their wrappers.

    Raises:
        DatasetError: The config lacks the split.
    """
    loader = cfg.get(f"{split}_dataloader")
    if not loader:
        raise DatasetError(
            f"cannot check {split}: the config has no {split}_dataloader"
        )
    return [dict(dataset) for dataset in inner_datasets(loader.dataset)]


def named_parts(cfg: Config, split: str) -> dict[str, dict]:
    """Settings of the datasets of a split, by name: ``val``, or ``val 1``, ...."""
    parts = data_sets(cfg, split)
    if len(parts) == 1:
        return {split: parts[0]}
    return {f"{split} {number}": part for number, part in enumerate(parts, 1)}


def pipeline_of(cfg: Config, name: str) -> list[Mapping]:
    """Transforms of a dataset that :func:`named_parts` names."""
    part = named_parts(cfg, name.split(" ")[0])[name]
    return list(part.get("pipeline") or ())


def without_labels(cfg: Config, name: str) -> bool:
    """Whether a dataset is predicted alone, and not judged."""
    metrics = metrics_of(cfg, name.split(" ")[0])
    return bool(metrics) and all(metric.get("format_only") for metric in metrics)


def unfiltered(settings: Mapping) -> dict:
    """Settings of the same dataset with all its images, as they are in the files."""
    # Detectors leave out images without objects, and a test keeps them.
    kept = {key: value for key, value in settings.items() if key != "filter_cfg"}
    return {**kept, "pipeline": []}


def evaluators(cfg: Config, settings: Mapping) -> Iterator[tuple[str, Mapping]]:
    """Metrics that judge predictions for one dataset alone.

    Args:
        cfg: Config.
        settings: Of the dataset, :func:`unfiltered`.

    Yields:
        What the metric is called in the config, and its settings.
    """
    for split in ("val", "test"):
        if not cfg.get(f"{split}_dataloader"):
            continue
        if list(map(unfiltered, data_sets(cfg, split))) != [settings]:
            continue
        found = cfg.get(f"{split}_evaluator")
        alone = isinstance(found, Mapping) and "metrics" not in found
        for number, metric in enumerate(metrics_of(cfg, split)):
            yield f"{split}_evaluator" + ("" if alone else f".{number}"), metric


def build(settings: Mapping, name: str) -> BaseDataset:
    """Open a dataset.

    Raises:
        DatasetError: It cannot be opened; the message says why.
    """
    try:
        return DATASETS.build(dict(settings))
    except Exception as error:  # whatever a dataset raises is what the user wants
        line = " ".join(str(error).split()) or type(error).__name__
        where = [f"{k}={settings[k]!r}" for k in PLACES if settings.get(k)]
        raise DatasetError(
            f"cannot open {name}, a {type_name(settings)} {', '.join(where)}: {line}. "
            "docs/data.md describes the layouts"
        ) from error


def open_lazily(settings: Mapping, name: str) -> BaseDataset:
    """A dataset that knows its paths and classes, and has not read its files.

    Raises:
        DatasetError: Its settings are wrong, or it is of a kind that always reads.
    """
    dataset = build({**unfiltered(settings), "lazy_init": True}, name)
    if isinstance(dataset, ScenesDataset):  # which makes its files
        try:
            prepare_scenes(dataset.data_root)
        except OSError as error:
            raise DatasetError(f"cannot open {name}: {error}") from error
    return dataset


def lists_as(dataset: BaseDataset, kind: type) -> bool:
    """Whether a dataset lists its samples by the code of ``kind``, not by other code.

    Its files can be judged by the rules of ``kind`` then.
    """
    for base in type(dataset).__mro__:
        if "load_data_list" in vars(base) and base is not ScenesDataset:
            return base is kind
    return False


def check_num_classes(cfg: Config, report: Report, classes: Iterable) -> None:
    """Compare the model with the dataset."""
    model = cfg.get("model") or {}
    wanted = {"num_classes": num_classes(model)}
    if (model.get("train_cfg") or {}).get("augments"):  # which mix one-hot labels
        number = preprocessor_of(cfg).get("num_classes")
        wanted["data_preprocessor.num_classes"] = number
    found = len(tuple(classes))
    for name, number in wanted.items():
        if number is not None and number != found:
            report.fault(
                "model and dataset differ",
                f"{name} is {number}, and the dataset has {found} classes",
            )


def open_image(path: str | Path) -> Image.Image:
    """Open an image file as large as trainings can read, which Pillow would refuse."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    return Image.open(path)


def image_fault(path: str, decode: bool) -> tuple[str, tuple[int, int] | None]:
    """What is wrong with an image file, and its width and height as it is displayed."""
    try:
        with open_image(path) as image:
            size = image.size
            # Looking for a PNG's orientation would decode it.
            turned = image.format != "PNG" and image.getexif().get(_EXIF_ORIENTATION, 1)
            if turned > 4:
                size = size[::-1]
            if decode:
                image.load()
    except FileNotFoundError:
        return "file is missing", None
    except Exception:  # decoders raise what they like
        return "image is damaged", None
    return "", size


def over(items: list, work: Callable[[Any], Any], options: Options) -> Iterator:
    """Items and what ``work`` makes of them, by threads, with progress."""
    with ThreadPool(options.workers) as pool:
        results = pool.imap(work, items, chunksize=8)
        for item in options.progress(items, len(items)):
            yield item, next(results)
