"""The three libraries whose tasks are run here, and what each of them calls its parts.

A task is the ``default_scope`` of a config: mmpretrain classifies, mmdet detects,
mmseg segments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["TASKS", "Task", "task_of"]


@dataclass(frozen=True)
class Task:
    """One library. Parts are named, and imported when they are needed.

    Attributes:
        library: Name of the package, and of the scope of its registries.
        inferencer: ``module:name`` of the class that predicts for files.
        visualizer: Registered type that draws labels and predictions.
        tta_model: Registered type that merges augmented views.
        prediction_writer: Registered metric that writes predictions as they are.
        label_loader: Transform that loads labels, if they are in files of their own.
        packing: Transform that packs an image with its labels.
        check: ``module:name`` of the function that checks the files of a dataset.
        judge: ``module:name`` of the function that judges them without decoding.
        graph: ``module:name`` of the class that is exported to ONNX.
    """

    library: str
    inferencer: str
    visualizer: str
    tta_model: str
    prediction_writer: str
    label_loader: str | None
    packing: str
    check: str
    judge: str
    graph: str

    def load(self, part: str) -> Any:
        """Import a part that is ``module:name``, such as ``"inferencer"``."""
        module, name = getattr(self, part).split(":")
        return getattr(import_module(module), name)


TASKS = {
    "mmpretrain": Task(
        library="mmpretrain",
        inferencer="mmpretrain.apis:ImageClassificationInferencer",
        visualizer="mmpretrain.UniversalVisualizer",
        tta_model="AverageClsScoreTTA",
        prediction_writer="DumpResults",
        label_loader=None,
        packing="PackInputs",
        check="cluenet_mm.datasets.check.classification:check_classification",
        judge="cluenet_mm.datasets.check.classification:judge_folder",
        graph="cluenet_mm.deploy.graphs:Classification",
    ),
    "mmdet": Task(
        library="mmdet",
        inferencer="mmdet.apis:DetInferencer",
        visualizer="mmdet.DetLocalVisualizer",
        tta_model="cluenet_mm.InstanceTTAModel",
        # It keeps masks run-length encoded: raw ones fill the memory.
        prediction_writer="mmdet.DumpDetResults",
        label_loader="LoadAnnotations",
        packing="PackDetInputs",
        check="cluenet_mm.datasets.check.detection:check_detection",
        judge="cluenet_mm.datasets.check.detection:judge_annotations",
        graph="cluenet_mm.deploy.graphs:Pyramid",
    ),
    "mmseg": Task(
        library="mmseg",
        inferencer="mmseg.apis:MMSegInferencer",
        visualizer="mmseg.SegLocalVisualizer",
        tta_model="SegTTAModel",
        prediction_writer="DumpResults",
        label_loader="LoadAnnotations",
        packing="PackSegInputs",
        check="cluenet_mm.datasets.check.segmentation:check_segmentation",
        judge="cluenet_mm.datasets.check.segmentation:judge_maps",
        graph="cluenet_mm.deploy.graphs:Segmentation",
    ),
}


def task_of(cfg: Mapping) -> Task:
    """The task of a config.

    Raises:
        ValueError: Its ``default_scope`` is none of the three libraries.
    """
    scope = cfg.get("default_scope")
    if scope not in TASKS:
        raise ValueError(
            f"cannot tell the task: the config's default_scope is {scope!r}. Set it to "
            + " or ".join(map(repr, TASKS))
        )
    return TASKS[scope]
