"""How well clusters match real objects, and whether importance tells the truth.

Beside the clusters stand those of networks that were never trained, Ward's method on
colors, Felzenszwalb's segments, SLIC superpixels and a regular grid of equal count.
Every mean has the half width of its 95 % confidence interval over images (Student's t).
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from scipy.stats import t as student
from torch import nn

from .annotated_images import AnnotatedImage
from .importance import class_probabilities, faithfulness, grad_cam, receptive_fields
from .pixels import from_sample, to_input
from .quality import (
    BOUNDARY_TOLERANCE,
    SegmentationScores,
    color_tree,
    felzenszwalb_segments,
    grid_segments,
    slic_segments,
)
from .segments import merge_tree
from .trace import trace

__all__ = ["measure_emergence", "measure_faithfulness"]

# Of a forward pass when regions are blanked: 32 images of 224 x 224.
_BATCH_PIXELS = 32 * 224 * 224
_BASELINES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "Felzenszwalb": felzenszwalb_segments,
    "SLIC": slic_segments,
    "grid": lambda image, count: grid_segments(image.shape[:2], count),
}


def measure_emergence(
    model: nn.Module,
    images: Iterable[AnnotatedImage],
    tolerance: int = BOUNDARY_TOLERANCE,
    untrained: Sequence[nn.Module] = (),
    counts: Sequence[int] = (),
) -> dict:
    """Agreement of clusters, of merged segments and of baselines with objects.

    A head is a partition of its own, and a number the mean over heads and images.

    Args:
        model: A model with a clustering backbone.
        images: What people drew.
        tolerance: Pixels by which a recalled boundary may be off.
        untrained: The same network with other initial weights, each beside it.
        counts: Numbers of segments for :func:`.merge_tree`, of the stages' maps alone
            and with colors beside them.

    Returns:
        ``rows``, one for every stage and kind of segments, with the numbers of
        :class:`.SegmentationScores` (None where there is none) and under ``interval``
        their half widths, and under ``lead`` the mean paired difference of ``clusters``
        (and ``clusters and colors``) and this kind, with its half width; ``merged``,
        the same for every count; the number of
        ``images``; and ``seconds_per_image``.
    """
    models = {"clusters": model}
    models |= {f"untrained {i}": other for i, other in enumerate(untrained, start=1)}
    scores, merged = defaultdict(list), defaultdict(list)
    seconds = defaultdict(list)
    for entry in images:

        def compare(segments: np.ndarray, entry=entry) -> SegmentationScores:
            return SegmentationScores.of(
                segments, entry.truth, entry.background, tolerance, entry.image
            )

        colors = _timed(seconds, "Ward on colors", lambda e=entry: color_tree(e.image))
        made = {}  # stages with equal counts share their baselines

        def baselines(count: int, entry=entry, colors=colors, made=made) -> dict:
            if count not in made:
                ward = compare(colors.cut(count).numpy(), entry)
                found = {"Ward on colors": ward}
                for name, segment in _BASELINES.items():
                    segments = _timed(
                        seconds, name, lambda f=segment: f(entry.image, count)
                    )
                    found[name] = compare(segments, entry)
                made[count] = found
            return made[count]

        for kind, network in models.items():
            inputs = to_input(network, entry.image)
            maps = _timed(seconds, "trace", lambda n=network, x=inputs: trace(n, x))
            maps = maps.to("cpu")
            for stage in range(len(maps.sizes)):
                heads = maps.clusters(stage, grid="image")[0].numpy()
                found = SegmentationScores.mean([compare(head) for head in heads])
                scores[stage + 1, kind].append(found)
                if network is model:
                    for name, score in baselines(max(round(found.segments), 1)).items():
                        scores[stage + 1, name].append(score)
            for image, title in ((None, ""), (entry.image, " and colors")):
                if counts:
                    tree = _timed(
                        seconds, "merge", lambda m=maps, i=image: merge_tree(m, image=i)
                    )
                for count in counts:
                    merged[count, kind + title].append(compare(tree.cut(count).numpy()))
        for count in counts:
            for name, score in baselines(count).items():
                merged[count, name].append(score)
    times = {name: float(np.mean(values)) for name, values in seconds.items()}
    return {
        "rows": _rows("stage", scores),
        "merged": _rows("k", merged),
        "seconds_per_image": times,
        "images": len(seconds["Ward on colors"]),
    }


def _timed(seconds: dict[str, list], name: str, run: Callable):
    start = time.perf_counter()
    result = run()
    seconds[name].append(time.perf_counter() - start)
    return result


def _rows(key: str, scores: dict[tuple[int, str], list]) -> list[dict]:
    """Means over images and the half widths of their intervals, as JSON knows them."""
    rows = []
    for (value, name), found in scores.items():
        row, interval = {key: value, "segments": name}, {}
        for title in asdict(found[0]):
            numbers = _column(found, title)
            row[title if title != "segments" else "count"] = _mean(numbers)
            interval[title if title != "segments" else "count"] = half_width(numbers)
        rows.append(row | {"interval": interval})
        lead = {}
        for own in ("clusters", "clusters and colors"):
            if name != own and (value, own) in scores and hasattr(found[0], "best_iou"):
                lead[own] = {
                    title: [_mean(difference), half_width(difference)]
                    for title in ("accuracy", "undersegmentation", "best_iou")
                    for difference in [
                        _column(scores[value, own], title) - _column(found, title)
                    ]
                }
        if lead:
            rows[-1]["lead"] = lead
    return rows


def _column(found: list, title: str) -> np.ndarray:
    return np.array([getattr(f, title) for f in found], np.float64)


def _mean(numbers: np.ndarray) -> float | None:
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if len(numbers) else None


def half_width(numbers: np.ndarray, confidence: float = 0.95) -> float | None:
    """Half width of the confidence interval of a mean (Student's t).

    Args:
        numbers: ``(n,)``, one an image; NaN where an image has none.
        confidence: Of the interval.

    Returns:
        ``t(n - 1) * deviation / sqrt(n)``; None of fewer than two numbers.
    """
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) < 2:
        return None
    quantile = student.ppf((1 + confidence) / 2, len(numbers) - 1)
    return float(quantile * numbers.std(ddof=1) / math.sqrt(len(numbers)))


def measure_faithfulness(
    model: nn.Module,
    samples: Iterable[Mapping],
    random_orders: int = 3,
    untrained: Sequence[nn.Module] = (),
) -> dict:
    """Areas under insertion and deletion curves of the ranking by importance.

    Regions are those of the first head of every stage, and of the baselines.

    Args:
        model: A classifier with a clustering backbone.
        samples: What a dataset's pipeline packs, of one image each.
        random_orders: Random rankings an image.
        untrained: The same network with other initial weights: their clusters are
            regions, too, of the trained model's prediction.

    Returns:
        ``rows``, one for every stage and kind of regions, with the means of
        :func:`.faithfulness` and half widths; of the clusters there is another row
        ranked by :func:`.grad_cam` of the last stage; the number of ``images``; and
        ``seconds_per_image_and_stage``.
    """
    predict = class_probabilities(model)
    scores, seconds, number = defaultdict(list), [], 0
    for number, sample in enumerate(samples, start=1):
        inputs, picture = from_sample(model, sample)
        label = int(predict(inputs)[0].argmax())
        maps = trace(model, inputs)
        others = [trace(network, inputs) for network in untrained]
        heat = grad_cam(model, inputs, label)[0].to(inputs.device)
        for stage in range(len(maps.sizes)):
            masks = {"clusters": receptive_fields(maps, stage=stage).masks}
            masks["clusters by Grad-CAM"] = masks["clusters"]
            for i, other in enumerate(others, start=1):
                masks[f"untrained {i}"] = receptive_fields(other, stage=stage).masks
            for name, segment in _BASELINES.items():
                segments = torch.from_numpy(segment(picture, len(masks["clusters"])))
                names = segments.unique()[:, None, None]
                masks[name] = (segments == names).to(inputs.device)
            for name, regions in masks.items():
                ranking = None
                if name == "clusters by Grad-CAM":
                    sums = (regions * heat).sum((1, 2)) / regions.sum((1, 2))
                    ranking = sums.argsort(descending=True, stable=True)
                start = time.perf_counter()
                found = faithfulness(
                    predict,
                    inputs[0],
                    regions,
                    label,
                    batch_size=max(_BATCH_PIXELS // inputs[0, 0].numel(), 1),
                    random_orders=random_orders,
                    seed=number,
                    ranking=ranking,
                )
                if name == "clusters":
                    seconds.append(time.perf_counter() - start)
                scores[stage + 1, name].append(found)
    rows = _rows("stage", scores)
    return {
        "rows": rows,
        "images": number,
        "seconds_per_image_and_stage": float(np.mean(seconds)),
    }
