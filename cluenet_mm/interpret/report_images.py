"""What a report shows of an image: its clusters, the prediction, their importance."""

from collections.abc import Callable

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..inference.predictor import Predictor
from .pixels import to_picture
from .report import Finding, ReportImage, rank_clusters
from .segments import merge_tree
from .trace import Trace, find_backbone, tracing

__all__ = ["ReportError", "report_image"]

# Headings of the findings, by what a predictor's record has of them.
_TITLES = {
    "scores": "Prediction",
    "instances": "Instances found",
    "segments": "Segments found, by area",
    "classes": "Classes found, by area",
}
_FINDINGS = 5
_INSTANCES = 20


class ReportError(ValueError):
    """An image that a report cannot show; the message is one line."""


def report_image(
    predictor: Predictor,
    name: str,
    predict: Callable[[], BaseDataElement],
    ranked: str = "last",
    score_thr: float = 0.3,
    segmented: bool = True,
    blanked: str = "pixels",
) -> ReportImage:
    """Predict once, and keep everything that a report shows of it.

    Args:
        predictor: The model.
        name: Shown over the image.
        predict: Runs the predictor's model on the image, once.
        ranked: Stages of a classifier whose clusters are ranked: ``"last"``, ``"all"``
            or ``"none"``.
        score_thr: Instances with a lower score are left out.
        segmented: Whether to merge the stages to segments.
        blanked: What ranking blanks, ``"pixels"`` or ``"points"``; see
            :func:`.rank_clusters`.

    Raises:
        ReportError: The model looks at the image more than once.
        ValueError: Points of this model cannot be blanked.
    """
    sample, inputs, maps = _look(predictor, name, predict)
    picture = to_picture(predictor.model, inputs)
    # What lies behind is padding.
    height, width = sample.get("img_shape", picture.shape)[:2]
    record = predictor.record(sample)
    ranking = None
    if predictor.scope == "mmpretrain" and ranked != "none":
        last = len(maps.layers()) - 1
        ranking = rank_clusters(
            predictor.model,
            inputs[0],
            maps,
            record["label"],
            record["class"],
            range(last + 1) if ranked == "all" else [last],
            blanked=blanked,
        )
    label = sample.get("gt_label")
    return ReportImage(
        name=name,
        picture=np.ascontiguousarray(picture[:height, :width]),
        maps=maps,
        findings=_findings(sample, predictor, record, score_thr),
        truth=None if label is None else predictor.class_name(int(label[0])),
        ranking=ranking,
        findings_title=next(t for key, t in _TITLES.items() if key in record),
        segments=merge_tree(maps) if segmented else None,
        cells=find_backbone(predictor.model).nearest_cells > 0,
    )


def _look(
    predictor: Predictor, name: str, predict: Callable[[], BaseDataElement]
) -> tuple[BaseDataElement, Tensor, Trace]:
    """Predict once, and keep what the backbone got and clustered."""
    seen = []
    backbone = find_backbone(predictor.model)
    handle = backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        with tracing(backbone) as traces:
            sample = predict()
    finally:
        handle.remove()
    if len(traces) != 1:
        raise ReportError(
            f"cannot report {name}: the model ran {len(traces)} times on it, and a "
            "report shows one forward pass. For a segmentor with sliding windows, add "
            "--cfg-options model.test_cfg.mode=whole"
        )
    return sample, seen[0], traces[0].to("cpu")


def _findings(
    sample: BaseDataElement, predictor: Predictor, record: dict, score_thr: float
) -> list[Finding]:
    """The prediction as lines, the best first."""
    if "scores" in record:
        best = np.argsort(record["scores"])[::-1][:_FINDINGS]
        return [
            Finding(predictor.class_name(int(i)), record["scores"][i]) for i in best
        ]
    height, width = record["size"]
    if "instances" in record:
        rows, columns = sample.img_shape[:2]
        scale = np.array([columns / width, rows / height] * 2)
        found = [
            Finding(i["class"], i["score"], tuple((scale * i["bbox"]).tolist()))
            for i in record["instances"]
            if i["score"] >= score_thr
        ]
        return sorted(found, key=lambda f: -f.score)[:_INSTANCES]
    areas = record["segments"] if "segments" in record else record["classes"]
    found = [Finding(a["class"], a["pixels"] / (height * width)) for a in areas]
    return sorted(found, key=lambda f: -f.score)
