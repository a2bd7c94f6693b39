"""Segments of an image, merged from the clusters of all stages."""

from dataclasses import dataclass

import numpy as np

from .trace import Trace

# Features of points are reduced to so many principal components.
_COMPONENTS = 16


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A hierarchy of connected segments.

    Attributes:
        parents: ``(2 P - 1,)`` int64: the node that each of ``P`` points, and each node
            that two merged into, merged into next; nodes are counted in the order of
            the merges, and the last one has itself.
        points: ``(H, W)`` int64, the point behind every pixel.
    """

    parents: np.ndarray
    points: np.ndarray

    def cut(self, k: int) -> np.ndarray:
        """The ``k`` segments that are left before the last ``k - 1`` merges.

        Args:
            k: How many; fewer where there are not so many points.

        Returns:
            ``(H, W)`` int64, in ``[0, k)``. Each segment lies in one of ``cut(k - 1)``.

        Raises:
            ValueError: ``k`` is not positive.
        """
        if k < 1:
            raise ValueError(f"cannot cut to {k} segments: that is not positive")
        node = np.arange(len(self.parents))
        kept = self.parents <= max(len(self.parents) - k, 0)
        above = np.where(kept, self.parents, node)
        while (above != above[above]).any():
            above = above[above]
        return np.unique(above[self.points], return_inverse=True)[1].reshape(
            self.points.shape
        )


def merge_tree(maps: Trace, sample: int = 0) -> MergeTree:
    """Merge neighboring points, those first that all stages describe alike.

    A point is described by the directions of the centers of its clusters, in all heads
    of all assignments, every stage with the same weight. Points that are neighbors on
    the map of the embedding are merged by Ward's method (J. Am. Stat. Assoc. 58, 1963),
    from single points to the whole image.

    Args:
        maps: Trace of the image.
        sample: Which image of the trace it is.

    Returns:
        The hierarchy.
    """
    # A second to import, for a package that is imported in every training.
    from sklearn.cluster import ward_tree
    from sklearn.feature_extraction.image import grid_to_graph

    features = []
    for stage, block in maps.layers():
        index = maps.clusters(stage, block, "points")[sample].flatten(1).cpu()  # (G, P)
        centers = maps.blocks[stage][block].centers[sample].detach().float().cpu()
        centers = centers / centers.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        weight = len(index) * sum(place == stage for place, _ in maps.layers())
        features += [
            head[members].double().numpy() / np.sqrt(weight)
            for head, members in zip(centers, index, strict=True)
        ]
    table = np.concatenate(features, axis=1)  # (P, sum of G * D)
    table -= table.mean(axis=0)
    axes = np.linalg.eigh(table.T @ table)[1][:, -_COMPONENTS:]
    graph = grid_to_graph(*maps.sizes[0])
    children = ward_tree(table @ axes, connectivity=graph)[0]
    count = len(table)
    parents = np.arange(2 * count - 1)
    parents[children.ravel()] = np.repeat(np.arange(count, 2 * count - 1), 2)
    return MergeTree(parents, maps.pixel_points()[0].cpu().numpy())
