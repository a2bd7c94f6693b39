"""Pictures of assignments."""

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from .trace import Trace

# Qualitative palette of Okabe and Ito, told apart by color-blind readers as well;
# more clusters than colors repeat it darker.
PALETTE = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (170, 170, 170),
    ],
    dtype=np.float64,
)
COLORINGS = ("feature", "mean", "palette")
_DARKEN = 0.72
_BORDER = 255
# Lines fade where they cover more than this part of a pixel's neighborhood.
_CROWDED = 0.25
_NEIGHBORHOOD = 9
# CIE Lab: similar features lie on blue to yellow, green to red, dark to light.
_MIDDLE = np.array([62.0, 0.0, 0.0])
_RANGES = np.array([24.0, 55.0, 60.0])  # of the third, second and first axis
# Axes along which centers differ less than this, relative to the first, are rounding.
_NEGLIGIBLE = 1e-3
_SAME = 1e-6  # and so are directions that are no further apart
_PANEL_SIDE = 224


def cluster_colors(count: int) -> np.ndarray:
    """Distinct colors.

    Args:
        count: How many.

    Returns:
        ``(count, 3)`` uint8, RGB.
    """
    turns, slots = np.divmod(np.arange(count), len(PALETTE))
    return (PALETTE[slots] * _DARKEN ** turns[:, None]).astype(np.uint8)


def feature_colors(centers: np.ndarray | Tensor, index: np.ndarray) -> np.ndarray:
    """Colors by feature: similar centers get similar colors, in every run the same.

    The directions of the centers that have members are projected on their three
    principal axes, which become blue to yellow, green to red, and dark to light. The
    sign of an axis is that which makes its largest weight positive. An axis is scaled
    by the square root of its extent, so that weaker ones remain visible.

    Args:
        centers: ``(K, D)`` features.
        index: Clusters of the points, of any shape; negative ones are not clusters.

    Returns:
        ``(K, 3)`` uint8, RGB; gray for centers without members.
    """
    centers = _unit_rows(centers)
    colors = np.tile(_MIDDLE, (len(centers), 1))
    present = np.unique(index[index >= 0])
    if len(present) > 1:
        members = centers[present] - centers[present].mean(axis=0)
        axes = np.linalg.svd(members, full_matrices=False)[2][:3]
        largest = np.abs(axes).argmax(axis=1)
        axes *= np.sign(axes[np.arange(len(axes)), largest])[:, None]
        place = members @ axes.T  # (present, up to 3)
        extent = np.abs(place).max(axis=0)
        place[:, extent <= max(_NEGLIGIBLE * extent[0], _SAME)] = 0
        place /= np.sqrt(np.maximum(extent * extent[0], 1e-30))
        for axis in range(place.shape[1]):
            colors[present, 2 - axis] += _RANGES[2 - axis] * place[:, axis]
    rgb = cv2.cvtColor(colors[None].astype(np.float32), cv2.COLOR_Lab2RGB)[0]
    return np.rint(255 * rgb.clip(0, 1)).astype(np.uint8)


def mean_colors(image: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Mean color of the pixels of every cluster.

    Args:
        image: ``(H, W, 3)`` uint8.
        index: ``(H, W)`` integers, the cluster of each pixel; negative ones are none.
        count: Number of clusters ``K``.

    Returns:
        ``(K, 3)`` uint8; black for clusters without pixels.
    """
    held = index >= 0
    sums = np.stack(
        [np.bincount(index[held], image[..., c][held], count) for c in range(3)], axis=1
    )
    sizes = np.bincount(index[held], minlength=count)[:, None]
    return np.rint(sums / np.maximum(sizes, 1)).astype(np.uint8)


def merge_clusters(
    index: np.ndarray, centers: np.ndarray | Tensor, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the clusters whose centers are most similar until ``count`` are left.

    Agglomerative clustering (Ward's) of the centers' directions; clusters without
    members take no part.

    Args:
        index: Clusters of the points, of any shape; negative ones stay as they are.
        centers: ``(K, D)`` features.
        count: How many clusters to leave; fewer where there are not so many.

    Returns:
        The merged index, whose clusters are counted in the order of their first old
        one, and ``(count, D)``, the means of the directions that were merged.

    Raises:
        ValueError: ``count`` is not positive.
    """
    # A second to import, for a hook that is registered in every training.
    from sklearn.cluster import AgglomerativeClustering

    if count < 1:
        raise ValueError(f"clusters are merged to at least 1, not {count}")
    present = np.unique(index[index >= 0])
    centers = _unit_rows(centers)[present]
    if len(present) > count:
        merged = AgglomerativeClustering(n_clusters=count).fit_predict(centers)
    else:
        merged = np.arange(len(present))
    _, first, merged = np.unique(merged, return_index=True, return_inverse=True)
    merged = np.argsort(np.argsort(first))[merged]
    table = np.full(index.max(initial=0) + 2, -1)  # the last entry is for -1
    table[present] = merged
    sizes = np.bincount(merged)
    means = np.zeros((len(sizes), centers.shape[1]))
    np.add.at(means, merged, centers)
    return table[np.maximum(index, -1)], means / sizes[:, None]


def cluster_panel(
    image: np.ndarray,
    index: np.ndarray,
    opacity: float = 0.6,
    colors: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a cluster map over the image.

    Args:
        image: ``(H, W, 3)`` uint8.
        index: ``(h, w)`` integers, the cluster of each point of the map, enlarged to
            the image; where it is negative the image is left alone.
        opacity: Weight of the clusters' colors, in [0, 1].
        colors: ``(K, 3)``, the color of every cluster; without them those that have
            members get :func:`cluster_colors` in the order of their first pixel.

    Returns:
        ``(H, W, 3)`` uint8, with a light line between clusters, which fades where
        lines would hide the clusters.
    """
    height, width = image.shape[:2]
    if colors is None:
        found, first, members = np.unique(index, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        colors = cluster_colors(len(rank))
        rank[found < 0] = -1
        index = rank[members].reshape(index.shape)
    index = cv2.resize(
        index.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    panel = (1 - opacity) * image + opacity * colors[index]
    panel[index < 0] = image[index < 0]
    line = np.zeros((height, width), np.float64)
    line[:, 1:] = index[:, 1:] != index[:, :-1]
    line[1:][index[1:] != index[:-1]] = 1
    crowd = cv2.blur(line, (_NEIGHBORHOOD, _NEIGHBORHOOD))
    line *= (_CROWDED / np.maximum(crowd, _CROWDED)) ** 2
    panel += line[..., None] * (_BORDER - panel)
    return panel.astype(np.uint8)


def cluster_figure(
    image: np.ndarray,
    maps: Trace,
    sample: int = 0,
    *,
    max_heads: int = 1,
    all_blocks: bool = False,
    coloring: str = "feature",
    merge: int | None = None,
    opacity: float = 0.6,
) -> Figure:
    """Image and cluster maps as one figure: a row a head, a column a stage or block.

    Every map is drawn on the pixels: a pixel has the color of the cluster that it
    ended up in, by way of the embedding and the poolings in between.

    Args:
        image: ``(H, W, 3)`` uint8, RGB: the traced input, or its upper left part where
            it had been padded.
        maps: Trace of the input.
        sample: Which image of the trace it is.
        max_heads: Rows at most.
        all_blocks: Whether to draw every assignment of a stage; else its last.
        coloring: ``"feature"`` (see :func:`feature_colors`), ``"mean"`` (of the pixels)
            or ``"palette"``.
        merge: Merge the clusters of every map to so many.
        opacity: Weight of the clusters' colors.

    Returns:
        The figure; nothing is shown or kept by matplotlib.

    Raises:
        ValueError: The coloring is unknown.
    """
    if coloring not in COLORINGS:
        raise ValueError(f"coloring must be one of {COLORINGS}, not {coloring!r}")
    layers = maps.layers()
    if not all_blocks:
        layers = list(dict(layers).items())  # the last of every stage
    rows = min(max(maps.blocks[i][j].index.size(1) for i, j in layers), max_heads)
    height, width = image.shape[:2]
    figure = Figure(
        figsize=(
            2.2 * (len(layers) + 1),
            (2.2 * height / width + (0.45 if all_blocks else 0.3)) * rows,
        ),
        layout="constrained",
    )
    axes = figure.subplots(rows, len(layers) + 1, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    scale = -(-_PANEL_SIDE // max(height, width))
    photo = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    axes[0, 0].imshow(photo)
    axes[0, 0].set_title("input", fontsize=9)
    for column, (stage, block) in enumerate(layers, start=1):
        clusters = maps.clusters(stage, block, "image")[sample].cpu().numpy()
        centers = maps.blocks[stage][block].centers[sample].float().cpu().numpy()
        for head in range(min(len(clusters), rows)):
            index, features = clusters[head, :height, :width], centers[head]
            if merge is not None:
                index, features = merge_clusters(index, features, merge)
            colors = None
            if coloring == "feature":
                colors = feature_colors(features, index)
            elif coloring == "mean":
                colors = mean_colors(image, index, len(features))
            axis = axes[head, column]
            axis.imshow(cluster_panel(photo, index, opacity, colors))
            title = f"stage {stage + 1}"
            title += f", block {block + 1}" if all_blocks else ""
            title += f", head {head + 1}" if rows > 1 else ""
            count = len(np.unique(index))
            title += ":\n" if all_blocks else ": "
            title += f"{count} cluster{'s' if count > 1 else ''}"
            axis.set_title(title, fontsize=9)
    return figure


def decision_figure(
    image: np.ndarray, trace: Trace, pixel: tuple[int, int], batch: int = 0
) -> Figure:
    """The cell of every stage that a pixel's label comes from in native segmentation.

    Args:
        image: ``(H, W, 3)`` uint8, RGB, in the size of the traced input.
        trace: Trace of the segmentor.
        pixel: Row and column.
        batch: Which image of the trace.

    Returns:
        The image and, beside it, the pixels of the cell of each stage: those that share
        it are bright, and the pixel is marked.

    Raises:
        ValueError: If the pixel lies outside of the image.
    """
    row, column = pixel
    if not (0 <= row < image.shape[0] and 0 <= column < image.shape[1]):
        raise ValueError(
            f"cannot explain pixel {tuple(pixel)}: it lies outside of the image of "
            f"{image.shape[0]} x {image.shape[1]} pixels"
        )
    stages = len(trace.sizes)
    figure = Figure(figsize=(2.2 * (stages + 1), 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, stages + 1)
    shown, titles = [image], ["image"]
    for stage in range(stages):
        cells = trace.cells(stage, "image")[batch].cpu().numpy()
        chosen = cells == cells[row, column]
        shown.append(np.where(chosen[..., None], image, image // 4))
        titles.append(f"stage {stage + 1}: {chosen.sum():,} pixels")
    for axes, picture, title in zip(panels, shown, titles, strict=True):
        axes.imshow(picture)
        axes.plot(column, row, "+", color="red", markersize=8)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return figure


def render(figure: Figure, dpi: int = 110) -> np.ndarray:
    """Pixels of a figure.

    Args:
        figure: From :func:`cluster_figure`, or any other.
        dpi: Dots per inch.

    Returns:
        ``(H, W, 3)`` uint8, RGB.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _unit_rows(x: np.ndarray | Tensor) -> np.ndarray:
    """Rows of unit length in double precision; zero stays zero."""
    x = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else x
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
