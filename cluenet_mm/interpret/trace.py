"""Traces: every assignment of a forward pass, and where its points come from.

A backbone embeds the image as points, clusters the points of a map in every block, and
pools the map between stages. All of that is recorded by forward hooks, which exist only
while somebody looks: a model that nobody traces does exactly what it always does.

Four grids occur, and methods that return maps take the name of one as ``grid``:

* ``"map"``: the points of the stage itself;
* ``"points"``: the points that the embedding made, each followed through the poolings
  to the point of the stage's map that it became part of;
* ``"pixels"``: the pixels of the input, each with the point whose window of the
  embedding holds it and has the nearest center. A pixel that no window holds, such as
  the last rows of an image whose height is not a multiple of a 4 x 4 patch, influences
  nothing and is marked (-1, or NaN for numbers);
* ``"image"``: as ``"pixels"``, but such a pixel goes with the nearest point, which
  suits pictures and comparisons with segmentations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.base import ClusterBackbone
from ..layers import HardAssignment, RecurrentClustering, SoftAssignment
from ..ops import Folds

GRIDS = ("map", "points", "pixels", "image")


@dataclass(frozen=True, eq=False)
class Clustering:
    """The hard assignment of one block, for ``B`` images and ``G`` heads.

    Attributes:
        index: ``(B, G, h, w)`` int64, the cluster of each point, in ``[0, K)``. Where
            the map is split into regions of ``M`` clusters, cluster ``m`` of region
            ``r`` (row by row) is ``r * M + m``.
        similarity: ``(B, G, h, w)``, that of each point and its cluster's center, as
            the network weighs it: ``sigmoid(beta + alpha * cos)``; for ClusterFormer,
            which shares points out, the largest share, that of its cluster.
        centers: ``(B, G, K, D)``, the features that points were compared with. A
            cluster without members has one too.
        regions: Rows and columns of regions; ``(1, 1)`` where the map is whole.
    """

    index: Tensor
    similarity: Tensor
    centers: Tensor
    regions: tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Geometry of the embedding: one window of pixels a point.

    Attributes:
        kernel: Side of a window in pixels.
        stride: Pixels between the windows of neighbors.
        padding: Pixels by which the first window reaches over the border.
    """

    kernel: int
    stride: int
    padding: int

    def points(self, pixels: int, count: int) -> tuple[Tensor, Tensor]:
        """Points along one side of the image.

        Args:
            pixels: Pixels of the side.
            count: Points of the side.

        Returns:
            Point of the nearest center for every pixel, int64 (of two equally near,
            the first), and whether its window holds the pixel.
        """
        pixel = torch.arange(pixels)
        # The window of point i has its center at i * stride - padding + (kernel - 1)/2;
        # twice the pixel's offset from the first center keeps to whole numbers.
        offset = 2 * (pixel + self.padding) - (self.kernel - 1)
        nearest = (offset + self.stride - 1).div(2 * self.stride, rounding_mode="floor")
        nearest = nearest.clamp(0, count - 1)
        inside = pixel + self.padding - nearest * self.stride
        return nearest, (inside >= 0) & (inside < self.kernel)


@dataclass(frozen=True, eq=False)
class Trace:
    """What one forward pass of ``B`` images clustered.

    Attributes:
        image_size: Rows and columns of the input.
        window: Geometry of the embedding.
        sizes: Rows and columns of the map of each stage.
        blocks: Per stage, one :class:`Clustering` a block. Blocks that reuse the
            assignment of another, as all but the first of a stage do in CLUENet, have
            the very same object.
        pools: Per reducer, the cell of the next map that each point of the map in front
            of it was pooled into: ``(B, h, w)`` int64, counted row by row. The
            convolutions that Context Cluster and ClusterFormer reduce with pool by
            place: a point goes to half its row and column.
        features: Per stage, the map ``(B, C, h, w)`` that its last block returned.
    """

    image_size: tuple[int, int]
    window: Window
    sizes: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[Clustering, ...], ...]
    pools: tuple[Tensor, ...]
    features: tuple[Tensor, ...]

    def layers(self) -> list[tuple[int, int]]:
        """Stage and block of every assignment, each once."""
        return [
            (i, j)
            for i, blocks in enumerate(self.blocks)
            for j, block in enumerate(blocks)
            if not any(block is earlier for earlier in blocks[:j])
        ]

    def clusters(
        self, stage: int = -1, block: int = -1, grid: str = "points"
    ) -> Tensor:
        """Cluster of every point or pixel at a stage.

        With ``grid="pixels"`` this composes embedding, poolings and clusters: the
        pixels of a cluster are its exact receptive field in the partition.

        Args:
            stage: A stage; negative ones count from the end.
            block: A block of the stage; negative ones count from the end.
            grid: One of ``GRIDS``.

        Returns:
            ``(B, G, rows, columns)`` int64; -1 for pixels that no point saw.
        """
        return self.spread(self.blocks[stage][block].index, stage, grid)

    def similarity(
        self, stage: int = -1, block: int = -1, grid: str = "points"
    ) -> Tensor:
        """Similarity of every point or pixel to its cluster, as :meth:`clusters`.

        Returns:
            ``(B, G, rows, columns)``; NaN for pixels that no point saw.
        """
        return self.spread(self.blocks[stage][block].similarity, stage, grid)

    def cells(self, stage: int, grid: str = "points") -> Tensor:
        """Point of a stage's map that every point or pixel was pooled into.

        Args:
            stage: A stage; negative ones count from the end.
            grid: One of ``GRIDS``.

        Returns:
            ``(B, rows, columns)`` int64, counted row by row; -1 for pixels that no
            point saw.
        """
        height, width = self.sizes[stage]
        cells = torch.arange(height * width, device=self.device)
        cells = cells.view(1, 1, height, width).expand(self.batch_size, -1, -1, -1)
        return self.spread(cells, stage, grid)[:, 0]

    def spread(self, values: Tensor, stage: int, grid: str = "points") -> Tensor:
        """Bring a map of a stage back to where its points come from.

        Args:
            values: ``(B, C, h, w)`` on the stage's map, integers or floating point.
            stage: A stage; negative ones count from the end.
            grid: One of ``GRIDS``.

        Returns:
            ``(B, C, rows, columns)``.

        Raises:
            ValueError: The grid is unknown.
        """
        if grid not in GRIDS:
            raise ValueError(f"grid must be one of {GRIDS}, not {grid!r}")
        if grid == "map":
            return values
        flat = values.flatten(2)  # (B, C, points of the stage)
        for pool in reversed(self.pools[: stage % len(self.sizes)]):
            cells = pool.flatten(1).unsqueeze(1)  # (B, 1, points of the map before)
            flat = flat.gather(2, cells.expand(-1, flat.size(1), -1))
        if grid == "points":
            return flat.unflatten(2, self.sizes[0])
        points, seen = self.pixel_points()
        flat = flat[:, :, points]  # (B, C, H, W)
        if grid == "image":
            return flat
        return flat.masked_fill(~seen, float("nan") if flat.is_floating_point() else -1)

    def pixel_points(self) -> tuple[Tensor, Tensor]:
        """Point of the embedding nearest to every pixel of the input.

        Returns:
            ``(H, W)`` int64, counted row by row, and ``(H, W)`` bool, whether the
            point's window holds the pixel.
        """
        (rows, row_held), (columns, column_held) = (
            self.window.points(pixels, count)
            for pixels, count in zip(self.image_size, self.sizes[0], strict=True)
        )
        points = rows[:, None] * self.sizes[0][1] + columns
        held = row_held[:, None] & column_held
        return points.to(self.device), held.to(self.device)

    @property
    def batch_size(self) -> int:
        """Number of images."""
        return len(self.blocks[0][0].index)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.blocks[0][0].index.device

    def to(self, device: torch.device | str) -> "Trace":
        """The same trace on another device."""
        moved = {}  # blocks that share an assignment keep sharing it
        for block in {id(b): b for blocks in self.blocks for b in blocks}.values():
            tensors = {
                f.name: getattr(block, f.name).to(device)
                for f in fields(block)
                if isinstance(getattr(block, f.name), Tensor)
            }
            moved[id(block)] = replace(block, **tensors)
        return replace(
            self,
            blocks=tuple(tuple(moved[id(b)] for b in blocks) for blocks in self.blocks),
            pools=tuple(pool.to(device) for pool in self.pools),
            features=tuple(features.to(device) for features in self.features),
        )


def find_backbone(model: nn.Module) -> ClusterBackbone:
    """The clustering backbone inside a classifier, detector or segmentor.

    Args:
        model: A model that holds one, or the backbone itself.

    Returns:
        The backbone.

    Raises:
        ValueError: If the model holds none.
    """
    for module in model.modules():
        if isinstance(module, ClusterBackbone):
            return module
    raise ValueError(
        f"cannot trace a {type(model).__name__}: it contains no clustering backbone"
    )


@contextmanager
def tracing(model: nn.Module) -> Iterator[list[Trace]]:
    """Record every forward pass that the model's backbone makes inside the block.

    So predictions and trace come from the same pass, whatever starts it:

        >>> with tracing(model) as traces:
        ...     results = model.test_step(batch)
        >>> traces[0].clusters(stage=-1, grid="pixels")

    Nothing of the model changes, its mode included; the hooks are gone at the end of
    the block, whatever happens in it.

    Args:
        model: A model with a clustering backbone, or the backbone.

    Yields:
        A list that receives a :class:`Trace`, without gradient, a pass. Most models
        make one a batch; sliding windows and test-time augmentation make more.

    Raises:
        ValueError: If the model holds no clustering backbone.
    """
    backbone = find_backbone(model)
    recorder = _Recorder(backbone)
    handles = []
    for module in backbone.modules():
        if isinstance(module, HardAssignment):
            handles.append(module.register_forward_hook(recorder.see_assignment))
        elif isinstance(module, SoftAssignment):
            handles.append(module.register_forward_hook(recorder.see_step))
        elif isinstance(module, RecurrentClustering):
            handles.append(module.register_forward_hook(recorder.see_clustering))
    handles.append(backbone.embed.register_forward_hook(recorder.see_embedding))
    handles += [r.register_forward_hook(recorder.see_map) for r in backbone.reducers]
    handles += [
        s[-1].register_forward_hook(recorder.see_stage) for s in backbone.stages
    ]
    handles.append(backbone.register_forward_hook(recorder.finish))
    try:
        yield recorder.traces
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def trace(model: nn.Module, images: Tensor) -> Trace:
    """Run the backbone of a model once, in evaluation mode, and record it.

    The model is left as it was: same modes, no hooks. To trace the pass of a prediction
    instead, see :func:`tracing`.

    Args:
        model: A model with a clustering backbone, or the backbone.
        images: ``(B, 3, H, W)``, as the backbone gets them (normalized).

    Returns:
        The :class:`Trace`, on the images' device.

    Raises:
        ValueError: If the model holds no clustering backbone, or the images are
            smaller than a patch.
    """
    backbone = find_backbone(model)
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        with tracing(backbone) as traces:
            backbone(images)
    finally:
        for module, mode in modes:
            module.training = mode
    return traces[0]


class _Recorder:
    """Forward hooks that collect what a pass shows, and put a trace together."""

    def __init__(self, backbone: ClusterBackbone) -> None:
        self.backbone = backbone
        self.traces: list[Trace] = []
        self._shape: torch.Size | None = None
        self._device: torch.device | None = None
        self._sizes: list[tuple[int, int]] = []
        self._features: list[Tensor] = []
        self._seen: dict[nn.Module, tuple[Tensor, Tensor, Tensor | None]] = {}
        self._step: tuple[Tensor, Tensor] | None = None

    def see_embedding(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Begin a pass; what an earlier one that failed has left is dropped."""
        self._seen.clear()
        self._shape, self._device = inputs[0].shape, inputs[0].device
        self._sizes = [tuple(output.shape[1:3])]
        self._features = []

    def see_map(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        """Note the size of the next stage's map."""
        if isinstance(output, tuple):  # its membership follows
            output = output[0]
        self._sizes.append(tuple(output.shape[1:3]))

    def see_stage(self, module: nn.Module, inputs: tuple, output: tuple) -> None:
        """Keep the map of a stage."""
        if self._shape is not None:  # as below
            self._features.append(output[0].detach().permute(0, 3, 1, 2))

    def see_assignment(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        """Keep centers, index and similarity."""
        if self._shape is None:
            return  # a block that recomputes its activations in the backward pass
        tensors = (inputs[1], output.index, output.similarity)
        self._seen[module] = tuple(t if t is None else t.detach() for t in tensors)

    def see_step(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Keep what a soft step compares, until the next one does."""
        self._step = inputs[:2]

    def see_clustering(
        self, module: RecurrentClustering, inputs: tuple, output: Tensor
    ) -> None:
        """Keep the winners of the last step."""
        queries, keys = self._step
        self._step = None
        if self._shape is not None:
            winner = module.assignment.winner(queries, keys)
            self._seen[module.assignment] = queries.detach(), *winner

    def finish(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        """Put the trace of this pass together."""
        projection = self.backbone.embed.projection
        pools = [
            self._pool(reducer, i) for i, reducer in enumerate(self.backbone.reducers)
        ]
        blocks = []
        for i, stage in enumerate(self.backbone.stages):
            found = []
            for block in stage:
                mixer = block.mixer
                reuses = _assignment(mixer) is None
                found.append(found[-1] if reuses else self._clustering(mixer, i))
            blocks.append(tuple(found))
        self.traces.append(
            Trace(
                image_size=tuple(self._shape[2:]),
                window=Window(
                    projection.kernel_size[0],
                    projection.stride[0],
                    projection.padding[0],
                ),
                sizes=tuple(self._sizes),
                blocks=tuple(blocks),
                pools=tuple(pools),
                features=tuple(self._features),
            )
        )
        self._shape = None
        self._seen.clear()
        self._features = []

    def _clustering(self, mixer: nn.Module, stage: int) -> Clustering:
        """Assignment of a block, on the whole map."""
        centers, index, similarity = self._seen[mixer.assignment]
        folds = Folds.of(self._sizes[stage], mixer.fold_grid, index.device)
        index = folds.without_repeats(index, mixer.cluster_grid)
        index = index + centers.size(2) * folds.number(index)
        # (B * regions, G, M, D) -> (B, regions, G, M, D) -> (B, G, regions * M, D)
        regions = folds.grid[0] * folds.grid[1]
        centers = centers.unflatten(0, (-1, regions)).transpose(1, 2).flatten(2, 3)
        return Clustering(
            folds.whole_map(index), folds.whole_map(similarity), centers, folds.grid
        )

    def _pool(self, reducer: nn.Module, stage: int) -> Tensor:
        """Cell of the next map for each point of a stage's map."""
        _, index, _ = self._seen.get(_assignment(reducer), (None, None, None))
        cells = reducer.cells(self._sizes[stage], index)
        return cells.to(self._device).expand(self._shape[0], -1, -1)


def _assignment(module: nn.Module) -> nn.Module | None:
    return getattr(module, "assignment", None)
