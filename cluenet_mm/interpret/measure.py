"""How well clusters match real objects, and whether importance tells the truth.

Beside the clusters stand those of networks that were never trained, Ward's method on
colors, Felzenszwalb's segments, SLIC superpixels and a regular grid of equal count.
Every mean has the half width of its 95 % confidence interval over images (Student's t).
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn

from .annotated_images import AnnotatedImage
from .importance import (
    class_probabilities,
    grad_cam,
    importance,
    importances,
    receptive_fields,
    stage_input,
)
from .insertion_deletion import faithfulness
from .pixels import from_sample, to_input, to_picture
from .pointing import grids_of_four, pointing_game, region_heat, tile
from .quality import (
    BOUNDARY_TOLERANCE,
    SegmentationScores,
    color_tree,
    felzenszwalb_segments,
    grid_segments,
    slic_segments,
)
from .segments import merge_tree
from .stability import Stability, stabilities
from .trace import Trace, trace

__all__ = [
    "half_width",
    "measure_emergence",
    "measure_faithfulness",
    "measure_pointing",
    "measure_stability",
]

_SCORED = ("accuracy", "undersegmentation", "best_iou")
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

        colors = _timed(seconds, "Ward on colors", color_tree, entry.image)

        @cache  # stages with equal counts share their baselines
        def baselines(count: int, entry=entry, colors=colors) -> dict:
            found = {"Ward on colors": compare(colors.cut(count).numpy(), entry)}
            for name, segment in _BASELINES.items():
                segments = _timed(seconds, name, segment, entry.image, count)
                found[name] = compare(segments, entry)
            return found

        for kind, network in models.items():
            inputs = to_input(network, entry.image)
            maps = _timed(seconds, "trace", trace, network, inputs).to("cpu")
            for stage in range(len(maps.sizes)):
                heads = maps.clusters(stage, grid="image")[0].numpy()
                found = SegmentationScores.mean([compare(head) for head in heads])
                scores[stage + 1, kind].append(found)
                if network is model:
                    for name, score in baselines(max(round(found.segments), 1)).items():
                        scores[stage + 1, name].append(score)
            for image, title in ((None, ""), (entry.image, " and colors")):
                if counts:
                    tree = _timed(seconds, "merge", merge_tree, maps, image=image)
                for count in counts:
                    merged[count, kind + title].append(compare(tree.cut(count).numpy()))
        for count in counts:
            for name, score in baselines(count).items():
                merged[count, name].append(score)
    times = {name: float(np.mean(values)) for name, values in seconds.items()}
    return {
        "rows": _rows("stage", scores, _SCORED),
        "merged": _rows("k", merged, _SCORED),
        "seconds_per_image": times,
        "images": len(seconds["Ward on colors"]),
    }


def _timed(seconds: dict[str, list], name: str, run: Callable, *args, **options):
    start = time.perf_counter()
    result = run(*args, **options)
    seconds[name].append(time.perf_counter() - start)
    return result


def _rows(
    key: str, scores: dict[tuple[int, str], list], compared: Sequence[str]
) -> list[dict]:
    """Means over images and the half widths of their intervals, as JSON knows them.

    ``lead`` has the mean difference, image by image, of ``clusters`` (and ``clusters
    and colors``) and this kind in the numbers that are compared, with its half width.
    """
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
            if name != own and (value, own) in scores:
                lead[own] = {
                    title: [_mean(difference), half_width(difference)]
                    for title in compared
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


def measure_stability(
    model: nn.Module,
    images: Iterable[np.ndarray],
    untrained: Sequence[nn.Module] = (),
) -> dict:
    """Whether clusters stay under shifts, flips and noise; see :func:`.stabilities`.

    Args:
        model: A model with a clustering backbone.
        images: ``(H, W, 3)`` uint8, RGB.
        untrained: The same network with other initial weights, each beside it.

    Returns:
        ``rows``, one for every stage and kind of segments, with means of
        :class:`.Stability` over heads and images, half widths and leads; and the number
        of ``images``.
    """
    models = {"clusters": model}
    models |= {f"untrained {i}": other for i, other in enumerate(untrained, start=1)}
    scores = defaultdict(list)
    for image in images:
        counts = []
        for kind, network in models.items():
            heads = []  # the stage of every partition

            def clusters(view: np.ndarray, network=network, heads=heads) -> list:
                maps = trace(network, to_input(network, view)).to("cpu")
                stages = [
                    maps.clusters(stage, grid="image")[0].numpy()
                    for stage in range(len(maps.sizes))
                ]
                heads[:] = [i for i, found in enumerate(stages) for _ in found]
                return [head for found in stages for head in found]

            found = stabilities(clusters, image)
            for stage in range(heads[-1] + 1):
                mine = [s for s, i in zip(found, heads, strict=True) if i == stage]
                means = np.mean([list(asdict(s).values()) for s in mine], axis=0)
                scores[stage + 1, kind].append(Stability(*means.tolist()))
                if kind == "clusters":
                    counts.append(max(round(means[0]), 1))
        baselines = {
            "Ward on colors": lambda view, counts=counts: [
                color_tree(view).cut(count).numpy() for count in counts
            ]
        }
        for name, segment in _BASELINES.items():
            baselines[name] = lambda view, counts=counts, segment=segment: [
                segment(view, count) for count in counts
            ]
        for name, partitions in baselines.items():
            for stage, score in enumerate(stabilities(partitions, image), start=1):
                scores[stage, name].append(score)
    return {
        "rows": _rows("stage", scores, ("shift", "flip", "noise")),
        "images": len(scores[1, "clusters"]),
    }


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
        :func:`.faithfulness`, half widths and leads; of the clusters there are other
        rows, ranked by :func:`.grad_cam` of the last stage and by blanking their points
        in the network (:func:`.stage_input`); the number of ``images``; and
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
            masks = _regions(maps, others, picture, stage)
            own = masks["clusters"]
            points = receptive_fields(maps, stage=stage, grid="map").masks
            inside = stage_input(model, inputs[0], stage)
            seen = inside.predict, inside.features, points, label, inside.blank
            sums = (own * heat).sum((1, 2)) / own.sum((1, 2))
            rankings = {
                "clusters by points": importance(*seen).order,
                "clusters by Grad-CAM": sums.argsort(descending=True, stable=True),
            }
            masks |= dict.fromkeys(rankings, own)
            for name, regions in masks.items():
                start = time.perf_counter()
                found = faithfulness(
                    predict,
                    inputs[0],
                    regions,
                    label,
                    random_orders=random_orders,
                    seed=number,
                    ranking=rankings.get(name),
                )
                if name == "clusters":
                    seconds.append(time.perf_counter() - start)
                scores[stage + 1, name].append(found)
    return {
        "rows": _rows("stage", scores, ("insertion", "deletion")),
        "images": number,
        "seconds_per_image_and_stage": float(np.mean(seconds)),
    }


def measure_pointing(
    model: nn.Module,
    samples: Iterable[Mapping],
    grids: int,
    untrained: Sequence[nn.Module] = (),
) -> dict:
    """The grid pointing game (:func:`.pointing_game`) of the importance of regions.

    The heat of a pixel is the score of its region for the class. Regions are those of
    the first head of every stage, and of the baselines.

    Args:
        model: A classifier with a clustering backbone.
        samples: What a dataset's pipeline packs, of one image each, all of one size:
            grids are made of those that the model classifies rightly, the surest first.
        grids: At most so many grids.
        untrained: Their clusters are regions, too, of the trained model's prediction.

    Returns:
        ``rows``, one for every stage and kind of regions, with means over grids, half
        widths and leads; of the clusters there are other rows, with their scores by
        blanking points in the network, the mean over all heads of such, and with the
        scores in random order; Grad-CAM stands beside the last stage; and the number of
        ``images``, grids of four.

    Raises:
        ValueError: Too few images are classified rightly.
    """
    predict = class_probabilities(model)

    def candidates() -> Iterator[tuple[Tensor, int, Tensor]]:
        for sample in samples:
            inputs, _ = from_sample(model, sample)
            label = int(sample["data_samples"].gt_label)
            yield inputs[0], label, predict(inputs)[0]

    chosen = grids_of_four(candidates(), grids)
    if not chosen:
        raise ValueError(
            "cannot play the pointing game: no four images of different classes are "
            "classified rightly. Take more images."
        )
    scores = defaultdict(list)
    for number, grid in enumerate(chosen):
        labels, image = list(grid), tile(grid.values())
        inputs, picture = image[None], to_picture(model, image)
        maps = trace(model, inputs)
        others = [trace(network, inputs) for network in untrained]
        generator = torch.Generator().manual_seed(number)

        def table(found: list) -> Tensor:
            return torch.stack([f.score for f in found])  # (4, K)

        for stage in range(len(maps.sizes)):
            heats, regions = {}, _regions(maps, others, picture, stage)
            for name, masks in regions.items():
                found = table(importances(predict, image, masks, labels))
                heats[name] = found, masks
            found, masks = heats["clusters"]
            order = torch.randperm(len(masks), generator=generator)
            heats["clusters, random scores"] = found[:, order], masks
            inside = stage_input(model, image, stage)
            heads = []
            for head in range(maps.blocks[stage][-1].index.size(1)):
                points = receptive_fields(maps, stage=stage, head=head, grid="map")
                seen = inside.predict, inside.features, points.masks, labels
                field = receptive_fields(maps, stage=stage, head=head)
                heads.append((table(importances(*seen, inside.blank)), field.masks))
            heats["clusters by points"] = heads[0]
            for name, (found, masks) in heats.items():
                heat = region_heat(found, masks.cpu())
                scores[stage + 1, name].append(pointing_game(heat, len(masks)))
            mean = torch.stack([region_heat(f, m.cpu()) for f, m in heads]).mean(0)
            count = sum(len(masks) for _, masks in heads)
            scores[stage + 1, "all heads by points"].append(pointing_game(mean, count))
        heat = torch.cat([grad_cam(model, inputs, label) for label in labels])
        scores[len(maps.sizes), "Grad-CAM"].append(pointing_game(heat.cpu()))
    return {
        "rows": _rows("stage", scores, ("share", "hit")),
        "images": len(chosen),
    }


def _regions(
    maps: Trace, others: Sequence[Trace], picture: np.ndarray, stage: int
) -> dict[str, Tensor]:
    """Masks of the clusters of first heads, and of the baselines of equal number."""
    masks = {"clusters": receptive_fields(maps, stage=stage).masks}
    for i, other in enumerate(others, start=1):
        masks[f"untrained {i}"] = receptive_fields(other, stage=stage).masks
    for name, segment in _BASELINES.items():
        segments = torch.from_numpy(segment(picture, len(masks["clusters"])))
        names = segments.unique()[:, None, None]
        masks[name] = (segments == names).to(maps.device)
    return masks
