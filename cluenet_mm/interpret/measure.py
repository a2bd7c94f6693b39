"""How well clusters match real objects, and whether importance tells the truth.

Beside the clusters stand SLIC superpixels and a regular grid of equal count.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from .annotated_images import AnnotatedImage
from .importance import class_probabilities, faithfulness, receptive_fields
from .pixels import from_sample, to_input
from .quality import (
    BOUNDARY_TOLERANCE,
    SegmentationScores,
    grid_segments,
    slic_segments,
)
from .trace import trace

__all__ = ["measure_emergence", "measure_faithfulness"]

# Of a forward pass when regions are blanked: 32 images of 224 x 224.
_BATCH_PIXELS = 32 * 224 * 224
_BASELINES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "SLIC": slic_segments,
    "grid": lambda image, count: grid_segments(image.shape[:2], count),
}


def measure_emergence(
    model: nn.Module,
    images: Iterable[AnnotatedImage],
    tolerance: int = BOUNDARY_TOLERANCE,
) -> dict:
    """Agreement of the clusters of every stage, and of the baselines, with objects.

    A head is a partition of its own, and a number the mean over heads and images.

    Args:
        model: A model with a clustering backbone.
        images: What people drew.
        tolerance: Pixels by which a recalled boundary may be off.

    Returns:
        ``rows``, one for every stage and kind of segments, with the numbers of
        :class:`.SegmentationScores` (None where there is none); the number of
        ``images``; and ``seconds_per_image`` of a trace and of each baseline.
    """
    scores, seconds = defaultdict(list), defaultdict(list)
    for entry in images:
        inputs = to_input(model, entry.image)
        start = time.perf_counter()
        maps = trace(model, inputs).to("cpu")
        seconds["trace"].append(time.perf_counter() - start)

        def compare(segments: np.ndarray, entry=entry) -> SegmentationScores:
            return SegmentationScores.of(
                segments, entry.truth, entry.background, tolerance
            )

        made = {}  # stages with equal counts share their baselines
        for stage in range(len(maps.sizes)):
            heads = maps.clusters(stage, grid="image")[0].numpy()
            found = SegmentationScores.mean([compare(head) for head in heads])
            scores[stage, "clusters"].append(found)
            count = max(round(found.segments), 1)
            for name, segment in _BASELINES.items():
                if (name, count) not in made:
                    start = time.perf_counter()
                    segments = segment(entry.image, count)
                    seconds[name].append(time.perf_counter() - start)
                    made[name, count] = compare(segments)
                scores[stage, name].append(made[name, count])
    rows = [
        {"stage": stage + 1, "segments": name, **_row(SegmentationScores.mean(found))}
        for (stage, name), found in scores.items()
    ]
    times = {name: float(np.mean(values)) for name, values in seconds.items()}
    return {"rows": rows, "seconds_per_image": times, "images": len(seconds["trace"])}


def _row(scores: SegmentationScores) -> dict:
    """Numbers of the scores; ``None``, which JSON knows, where there is none."""
    row = asdict(scores)
    row["count"] = row.pop("segments")
    return {key: None if math.isnan(value) else value for key, value in row.items()}


def measure_faithfulness(
    model: nn.Module, samples: Iterable[Mapping], random_orders: int = 3
) -> dict:
    """Areas under insertion and deletion curves of the ranking by importance.

    Regions are those of the first head of every stage, and of the baselines.

    Args:
        model: A classifier with a clustering backbone.
        samples: What a dataset's pipeline packs, of one image each.
        random_orders: Random rankings an image.

    Returns:
        ``rows``, one for every stage and kind of regions, with the means of
        :func:`.faithfulness`; the number of ``images``; and
        ``seconds_per_image_and_stage``.
    """
    predict = class_probabilities(model)
    scores, seconds, number = defaultdict(list), [], 0
    for number, sample in enumerate(samples, start=1):
        inputs, picture = from_sample(model, sample)
        label = int(predict(inputs)[0].argmax())
        maps = trace(model, inputs)
        for stage in range(len(maps.sizes)):
            masks = {"clusters": receptive_fields(maps, stage=stage).masks}
            for name, segment in _BASELINES.items():
                segments = torch.from_numpy(segment(picture, len(masks["clusters"])))
                names = segments.unique()[:, None, None]
                masks[name] = (segments == names).to(inputs.device)
            for name, regions in masks.items():
                start = time.perf_counter()
                found = faithfulness(
                    predict,
                    inputs[0],
                    regions,
                    label,
                    batch_size=max(_BATCH_PIXELS // inputs[0, 0].numel(), 1),
                    random_orders=random_orders,
                    seed=number,
                )
                if name == "clusters":
                    seconds.append(time.perf_counter() - start)
                scores[stage, name].append(found)
    rows = []
    for (stage, name), found in scores.items():
        means = {
            key: float(np.mean([asdict(f)[key] for f in found]))
            for key in asdict(found[0])
        }
        rows.append({"stage": stage + 1, "segments": name, **means})
    return {
        "rows": rows,
        "images": number,
        "seconds_per_image_and_stage": float(np.mean(seconds)),
    }
