"""Segments of an image, merged from the clusters of all stages."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from .trace import Trace

# Features of points are reduced to so many principal components.
_COMPONENTS = 32


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A hierarchy of segments.

    Attributes:
        parents: ``(2 P - 1,)`` int64: the node that each of ``P`` points, and each node
            that two merged into, merged into next; nodes are counted in the order of
            the merges, and the last one has itself.
        points: ``(H, W)`` int64, the point behind every pixel.
    """

    parents: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, children: np.ndarray, points: np.ndarray) -> "MergeTree":
        """The hierarchy of the ``(P - 1, 2)`` children that scikit-learn returns."""
        count = len(children) + 1
        parents = np.arange(2 * count - 1)
        children = np.asarray(children, int)  # none, of one point, is a float
        parents[children.ravel()] = np.repeat(np.arange(count, 2 * count - 1), 2)
        return cls(parents, points)

    def cut(self, k: int) -> Tensor:
        """The ``k`` segments that are left before the last ``k - 1`` merges.

        Args:
            k: How many; fewer where there are not so many points.

        Returns:
            ``(H, W)`` int64, in ``[0, k)``. Each segment lies in one of ``cut(k - 1)``.

        Raises:
            ValueError: ``k`` is not positive.
        """
        if k < 1:
            raise ValueError(f"cannot cut to {k} segments. Ask for at least one.")
        node = np.arange(len(self.parents))
        kept = self.parents <= max(len(self.parents) - k, 0)
        above = np.where(kept, self.parents, node)
        while (above != above[above]).any():
            above = above[above]
        found = np.unique(above[self.points], return_inverse=True)[1]
        return torch.from_numpy(found.reshape(self.points.shape))


def merge_tree(
    maps: Trace,
    sample: int = 0,
    *,
    describe: str = "features",
    connected: bool = True,
    weights: Sequence[float] | None = None,
    image: np.ndarray | None = None,
    color_weight: float = 1.0,
) -> MergeTree:
    """Merge points, those first that all stages describe alike; one run for every k.

    A point of the embedding is described by the map of every stage, normalized over the
    channels and enlarged bilinearly, or by the directions of the centers of its
    clusters in all heads of all assignments. Ward's method (J. Am. Stat. Assoc. 58,
    1963) merges points, from single ones to the whole image.

    Args:
        maps: Trace of the image.
        sample: Which image of the trace it is.
        describe: ``"features"``, the maps, or ``"centers"``, the assignments alone.
        connected: Whether only neighbors on the map of the embedding merge, so that
            segments are connected.
        weights: Of the stages, one each, in units of variance; equal by default. 0
            leaves a stage out.
        image: ``(H, W, 3)`` uint8, RGB, of the trace's size: its colors (CIE Lab)
            describe points, too.
        color_weight: Variance of the colors, where there are any, against the sum of
            the stages'.

    Returns:
        The hierarchy.

    Raises:
        ValueError: ``describe`` is unknown, there is not one weight a stage, nothing
            has a weight, one is negative, or the image has another size.
    """
    # A second to import, for a package that is imported in every training.
    from sklearn.cluster import ward_tree
    from sklearn.feature_extraction.image import grid_to_graph

    stages = len(maps.sizes)
    weights = [1.0] * stages if weights is None else list(weights)
    if len(weights) != stages or min(weights) < 0:
        raise ValueError(
            f"cannot weigh {stages} stages with {weights}. Give one number from 0 a "
            "stage."
        )
    if describe not in _DESCRIPTIONS:
        raise ValueError(
            f"cannot describe points by {describe!r}. Take one of {[*_DESCRIPTIONS]}."
        )
    table_of = _DESCRIPTIONS[describe]
    total = sum(weights) or 1.0
    tables = [
        _scaled(table_of(maps, sample, stage), weight / total)
        for stage, weight in enumerate(weights)
        if weight > 0
    ]
    points = maps.pixel_points()[0].cpu().numpy()
    if image is not None:
        tables.append(_scaled(_point_colors(image, points, maps), color_weight))
    if not tables:
        raise ValueError(
            "cannot merge points: no stage has a weight. Give one a weight."
        )
    graph = grid_to_graph(*maps.sizes[0]) if connected else None
    children = ward_tree(_principal(np.concatenate(tables, axis=1)), connectivity=graph)
    return MergeTree.of(children[0], points)


def segments(
    maps: Trace,
    k: int,
    sample: int = 0,
    *,
    image: np.ndarray | None = None,
) -> Tensor:
    """Merge the clusters of all stages to ``k`` segments, unsupervised.

    :func:`merge_tree` has more options, and is cheaper for more than one ``k``.

    Args:
        maps: Trace of the image, ``trace(model, inputs)``.
        k: Number of segments.
        sample: Which image of the trace it is.
        image: ``(H, W, 3)`` uint8, RGB, whose colors count, too.

    Returns:
        ``(H, W)`` int64, in ``[0, k)``.
    """
    return merge_tree(maps, sample, image=image).cut(k)


def _stage_features(maps: Trace, sample: int, stage: int) -> np.ndarray:
    """A stage's map at every point of the embedding, ``(P, C)``."""
    features = maps.features[stage][sample].detach().double().cpu()  # (C, h, w)
    features = features - features.mean(0)
    features = features / features.var(0, unbiased=False).add(1e-5).sqrt()
    enlarged = torch.nn.functional.interpolate(
        features[None], maps.sizes[0], mode="bilinear"
    )
    return enlarged[0].flatten(1).T.numpy()


def _stage_centers(maps: Trace, sample: int, stage: int) -> np.ndarray:
    """Directions of the centers behind every point, ``(P, sum of G * D)``."""
    features = []
    for block in {b for s, b in maps.layers() if s == stage}:
        index = maps.clusters(stage, block, "points")[sample].flatten(1).cpu()  # (G, P)
        centers = maps.blocks[stage][block].centers[sample].detach().double().cpu()
        centers = torch.nn.functional.normalize(centers, dim=-1)
        features += [
            head[members].numpy() for head, members in zip(centers, index, strict=True)
        ]
    return np.concatenate(features, axis=1)


_DESCRIPTIONS = {"features": _stage_features, "centers": _stage_centers}


def _point_colors(image: np.ndarray, points: np.ndarray, maps: Trace) -> np.ndarray:
    """Mean CIE Lab color of the pixels of every point, ``(P, 3)``."""
    if image.shape[:2] != points.shape:
        raise ValueError(
            f"cannot use colors of an image of {image.shape[:2]} pixels beside a trace "
            f"of {points.shape}. Give the image that was traced."
        )
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    count = maps.sizes[0][0] * maps.sizes[0][1]
    sums = np.stack(
        [np.bincount(points.ravel(), lab[..., c].ravel(), count) for c in range(3)], 1
    )
    sizes = np.bincount(points.ravel(), minlength=count)
    return sums / np.maximum(sizes, 1)[:, None]


def _scaled(table: np.ndarray, variance: float) -> np.ndarray:
    """The table, centered, with this total variance (0 where all rows are one)."""
    table = table - table.mean(axis=0)
    spread = np.sqrt((table**2).sum(axis=1).mean())
    return table * (np.sqrt(variance) / max(spread, 1e-12))


def _principal(table: np.ndarray) -> np.ndarray:
    """The largest principal components of a centered table."""
    return table @ np.linalg.eigh(table.T @ table)[1][:, -_COMPONENTS:]
