"""The check of a detector's dataset, in COCO's format."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ...config import metrics_of, type_name
from .coco import (
    judge_categories,
    judge_images,
    judge_objects,
    judge_segments,
    read_json,
)
from .common import (
    DatasetError,
    Options,
    Report,
    build,
    check_num_classes,
    evaluators,
    image_fault,
    lists_as,
    open_lazily,
    over,
    pipeline_of,
    without_labels,
)
from .panoptic import check_maps
from .pipeline import note_pipeline


def check_detection(
    cfg: Config, settings: Mapping, report: Report, options: Options
) -> BaseDataset | None:
    """Fill the report and return the dataset, if mmdet can load it."""
    dataset = open_lazily(settings, report.name)
    if not _is_coco(dataset):
        raise DatasetError(
            f"cannot check {report.name}: {type_name(settings)} is not in COCO's format"
        )
    images, segments = _judge(cfg, dataset, report)
    folder = dataset.data_prefix.get("img") or ""
    sizes = []

    def look(image: dict) -> tuple[str, tuple[int, int] | None]:
        return image_fault(str(Path(folder, image["file_name"])), options.decode)

    for image, (fault, size) in over(images, look, options):
        if fault:
            report.fault(fault, Path(folder, image["file_name"]))
            continue
        sizes.append(size)
        if size != (image["width"], image["height"]):
            report.fault(
                "image has another size than its annotations say",
                f"{image['file_name']}: {size[0]} x {size[1]}, not "
                f"{image['width']} x {image['height']}",
            )
    if _is_panoptic(dataset):
        check_maps(dataset, segments, report, options)
    _check_evaluators(cfg, settings, dataset, report)
    note_pipeline(cfg, report, sizes)
    try:
        return build(settings, report.name)
    except DatasetError as error:
        report.fault("mmdet cannot load it", error)
        return None


def judge_annotations(cfg: Config, settings: Mapping, report: Report) -> None:
    """Fill the report with what the annotation file alone tells.

    Raises:
        DatasetError: The file is missing or no annotation file.
    """
    try:
        dataset = open_lazily(settings, report.name)
    except DatasetError:
        return  # the training says why, if it cannot be built
    if _lists_as_coco(dataset) and "://" not in dataset.ann_file:
        _judge(cfg, dataset, report)


def _is_coco(dataset: BaseDataset) -> bool:
    from mmdet.datasets import CocoDataset

    return isinstance(dataset, CocoDataset)


def _lists_as_coco(dataset: BaseDataset) -> bool:
    from mmdet.datasets import CocoDataset

    return lists_as(dataset, CocoDataset)


def _is_panoptic(dataset: BaseDataset) -> bool:
    from mmdet.datasets import CocoPanopticDataset

    return isinstance(dataset, CocoPanopticDataset)


def _judge(cfg: Config, dataset: BaseDataset, report: Report) -> tuple[list, list]:
    """Judge images, categories and annotations.

    Returns:
        Images that can be used, and of panoptic ones what :func:`judge_segments` does.
    """
    report.source = dataset.ann_file
    labeled = not without_labels(cfg, report.name)
    content = read_json(Path(dataset.ann_file), report.name, labeled)
    classes = dataset.metainfo.get("classes") or ()
    annotations, categories = content["annotations"], content["categories"]
    segments = []
    images = judge_images(content["images"], report)
    names = judge_categories(categories, classes, report, _lists_as_coco(dataset))
    if _is_panoptic(dataset):
        for category in categories:
            if "isthing" not in category:
                report.fault("category lacks isthing", category["name"])
        used = (category for category in categories if category["name"] in classes)
        things = [bool(category.get("isthing")) for category in used]
        if things != sorted(things, reverse=True):
            report.fault("stuff comes before things", report.source)
        segments = judge_segments(annotations, images, names, classes, report)
    else:
        masks = _reads_masks(cfg, report.name)
        judge_objects(annotations, images, names, classes, masks, report, labeled)
    if not dataset.return_classes:  # whose model reads the names
        check_num_classes(cfg, report, classes)
    return list(images.values()), segments


def _reads_masks(cfg: Config, name: str) -> bool:
    """Whether the pipeline loads masks, or a metric compares them."""
    for step in pipeline_of(cfg, name):
        if type_name(step).endswith("LoadAnnotations") and step.get("with_mask"):
            return True
    metrics = metrics_of(cfg, name.split(" ")[0])
    return any("segm" in (metric.get("metric") or ()) for metric in metrics)


def _check_evaluators(
    cfg: Config, settings: Mapping, dataset: BaseDataset, report: Report
) -> None:
    """Metrics read annotations by paths of their own: are they the dataset's?"""
    used = {"ann_file": dataset.ann_file, "seg_prefix": dataset.data_prefix.get("seg")}
    for place, metric in evaluators(cfg, settings):
        for key, path in used.items():
            judged = metric.get(key)
            if (
                judged is None
                or not path
                or Path(judged).resolve() == Path(path).resolve()
            ):
                continue
            where = f"{place}.{key} is {judged}, and the dataset reads {path}"
            report.fault("evaluator and dataset differ", where)
