"""ClusterFormer's universal decoder: the centers are the queries.

"ClusterFormer: Clustering As A Universal Visual Learner" (NeurIPS 2023, arXiv
2309.13196). Centers are initialized, cluster the points of several maps by recurrent
cross-attention, and end as classes, boxes and masks. What the paper leaves open, and
what we chose:

* *Features.* Those of an ordinary pyramid (FPN), clustered in turn, one map a layer,
  from coarse to fine. Where there are masks, the finest map is not clustered: it gives
  the per-pixel embeddings, behind a GroupNorm that sees the padding of the batch as
  those of other mask heads do. Centers, classes and boxes do not depend on it.
* *Adaptive sampling* of things: the maps that are clustered are pooled to a grid over
  the image without its padding, averaged over the levels, and go through an FFN. A
  center knows its cell: box predictions start there, and so does its position.
* *Learned embeddings* of stuff and semantic classes, one a class, with learned
  positions. A center that is one class needs no matching.
* *A layer* is clustering, attention among the centers, FFN, each with a residual and a
  LayerNorm behind it, as usual in decoders of queries.
* *Prediction* after the initialization and after every layer, by the same heads; all
  of them are trained.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch
from mmdet.models.layers import SinePositionalEncoding, inverse_sigmoid
from mmdet.models.layers.transformer.utils import MLP, coordinate_to_encoding
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from .layer import ClusterDecoderLayer


class Prediction(NamedTuple):
    """What the heads say of ``L`` centers in ``B`` images.

    Attributes:
        logits: ``(B, L, K + 1)``, the last for "no object".
        boxes: ``(B, L, 4)``, center, width and height over those of the image without
            padding, in [0, 1]; or ``None``.
        masks: ``(B, L, h, w)`` logits on the finest map, or ``None``.
    """

    logits: Tensor
    boxes: Tensor | None
    masks: Tensor | None


class PointNorm(nn.LayerNorm):
    """LayerNorm over the channels of every point of a map ``(B, C, h, w)``.

    The maps of a pyramid have no fixed scale, and iterations amplify it: without this
    the gradient explodes on photographs. Padding has no influence on other points.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ClusterDecoder(BaseModule):
    """Centers over multi-scale features, and heads for class, box and mask.

    Args:
        in_channels: Channels of all maps of the pyramid.
        num_classes: Classes ``K``, without "no object".
        num_maps: Maps that the pyramid gives; with masks, two at least.
        embed_dims: Channels ``E`` of the centers, divisible by four.
        sample_grid: Rows and columns of centers that are sampled from the features, or
            ``None``.
        num_learned: Number of learned centers, behind the sampled ones.
        num_layers: Number of layers, at least one for every map that is clustered.
        num_heads: Heads of a layer.
        num_iterations: Iterations of the clustering in a layer.
        hidden_dims: Channels inside the FFNs of the layers.
        drop_rate: Dropout probability in the layers.
        with_box: Whether there is a box head.
        with_mask: Whether there is a mask head.
        init_cfg: Initialization config of MMEngine.

    Raises:
        ValueError: If there are no centers, nothing is predicted, or a size is wrong.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_maps: int = 4,
        embed_dims: int = 256,
        sample_grid: tuple[int, int] | None = (10, 10),
        num_learned: int = 0,
        num_layers: int = 6,
        num_heads: int = 8,
        num_iterations: int = 3,
        hidden_dims: int = 1024,
        drop_rate: float = 0.0,
        with_box: bool = True,
        with_mask: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_sampled = sample_grid[0] * sample_grid[1] if sample_grid else 0
        if self.num_sampled + num_learned < 1:
            raise ValueError("the decoder needs centers: sample_grid or num_learned")
        if with_box and not self.num_sampled:
            raise ValueError("a box head needs sampled centers: set sample_grid")
        if embed_dims % 4:
            raise ValueError(f"embed_dims must be divisible by 4, not {embed_dims}")
        if num_maps < 1 + with_mask:
            raise ValueError(f"num_maps must be at least {1 + with_mask}")
        self.num_maps = num_maps
        num_levels = num_maps - with_mask
        if num_layers < num_levels:
            raise ValueError(
                f"{num_layers} layers leave maps unused: {num_levels} are clustered"
            )
        self.sample_grid = sample_grid
        self.encoding = SinePositionalEncoding(
            embed_dims // 2, normalize=True, offset=-0.5
        )
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels, embed_dims, 1), PointNorm(embed_dims))
            for _ in range(num_levels)
        )
        self.levels = nn.Parameter(torch.zeros(num_levels, embed_dims))
        if self.num_sampled:
            self.initial = MLP(embed_dims, hidden_dims, embed_dims, 2)
            self.initial_norm = nn.LayerNorm(embed_dims)
        if num_learned:
            self.learned = nn.Parameter(torch.randn(num_learned, embed_dims))
            self.learned_position = nn.Parameter(torch.randn(num_learned, embed_dims))
        self.layers = nn.ModuleList(
            ClusterDecoderLayer(
                embed_dims, num_heads, num_iterations, hidden_dims, drop_rate
            )
            for _ in range(num_layers)
        )
        self.classify = nn.Linear(embed_dims, num_classes + 1)
        self.box = MLP(embed_dims, embed_dims, 4, 3) if with_box else None
        self.mask = MLP(embed_dims, embed_dims, embed_dims, 3) if with_mask else None
        if with_mask:
            groups = max(g for g in (32, 16, 8, 4) if embed_dims % g == 0)
            self.pixels = nn.Sequential(
                nn.Conv2d(in_channels, embed_dims, 3, padding=1),
                nn.GroupNorm(groups, embed_dims),
                nn.ReLU(inplace=True),
                nn.Conv2d(embed_dims, embed_dims, 1),
            )

    def init_weights(self) -> None:
        """Matrices by Xavier, learned centers from N(0, 1), boxes at their cells.

        What ``init_cfg`` says comes last.
        """
        if not self.is_init:
            self._init_parameters()
        super().init_weights()

    def _init_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not name.startswith(("learned", "levels")):
                nn.init.xavier_uniform_(parameter)
        for parameter in (self.levels, *self._learned()):
            nn.init.normal_(parameter)
        if self.box is not None:
            nn.init.zeros_(self.box.layers[-1].weight)
            nn.init.zeros_(self.box.layers[-1].bias)
        nn.init.zeros_(self.classify.bias)

    def _learned(self) -> list[Tensor]:
        names = ("learned", "learned_position")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def forward(
        self, maps: Sequence[Tensor], sizes: Sequence[tuple[float, float]] | None = None
    ) -> list[Prediction]:
        """Decode.

        Args:
            maps: ``num_maps`` maps ``(B, C, h, w)`` of the pyramid, the finest first.
            sizes: Rows and columns of every image over those of the padded batch, in
                (0, 1]; ``None`` where nothing is padded.

        Returns:
            Predictions after the initialization and after every layer. Sampled centers
            come before learned ones.

        Raises:
            ValueError: If the number of maps is wrong.
        """
        if len(maps) != self.num_maps:
            raise ValueError(
                f"the decoder was built for {self.num_maps} maps and got {len(maps)}: "
                "set num_maps to what the neck gives"
            )
        padding = [padding_of(x, sizes) for x in maps]
        pixels = None
        if self.mask is not None:
            pixels = self.pixels(maps[0])  # (B, E, h, w)
            pixels = pixels + self.encoding(padding[0]).to(pixels.dtype)
            maps, padding = maps[1:], padding[1:]
        levels = [conv(x) for conv, x in zip(self.inputs, maps, strict=True)]
        centers, position, cells = self._initialize(levels, padding)
        found = [self._predict(centers, cells, pixels)]

        tokens = []
        for x, pad, level in zip(levels, padding, self.levels, strict=True):
            place = (self.encoding(pad) + level[:, None, None]).to(x.dtype)
            mask = None if sizes is None else (~pad).flatten(1).unsqueeze(1).float()
            # (B, E, h, w) -> (B, N, E)
            flat = [y.flatten(2).transpose(1, 2) for y in (x, place)]
            tokens.append((*flat, mask))
        for i, layer in enumerate(self.layers):
            centers = layer(centers, position, *tokens[-1 - i % len(tokens)])
            found.append(self._predict(centers, cells, pixels))
        return found

    def _initialize(
        self, levels: list[Tensor], padding: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Centers, their positions ``(B, L, E)``, and cells ``(1, S, 4)``."""
        batch, dims = levels[0].shape[:2]
        centers, position, cells = [], [], None
        if self.num_sampled:
            rows, columns = self.sample_grid
            pooled = [
                sample(x, pad, (rows, columns))
                for x, pad in zip(levels, padding, strict=True)
            ]
            pooled = torch.stack(pooled).mean(dim=0)  # (B, S, E)
            centers.append(self.initial_norm(self.initial(pooled)))
            cells = grid_cells(rows, columns, pooled.device)
            place = coordinate_to_encoding(cells[..., :2], dims // 2)
            position.append(place.to(pooled.dtype).expand(batch, -1, -1))
        for found, parameter in zip((centers, position), self._learned(), strict=False):
            found.append(parameter.to(levels[0].dtype).expand(batch, -1, -1))
        return torch.cat(centers, dim=1), torch.cat(position, dim=1), cells

    def _predict(
        self, centers: Tensor, cells: Tensor | None, pixels: Tensor | None
    ) -> Prediction:
        boxes = masks = None
        if self.box is not None:
            offset = self.box(centers).float()
            start = inverse_sigmoid(cells, eps=1e-3)
            learned = offset.size(1) - start.size(1)
            boxes = (F.pad(start, (0, 0, 0, learned)) + offset).sigmoid()
        if self.mask is not None:
            embedded = self.mask(centers)
            masks = torch.einsum("ble,behw->blhw", embedded, pixels).float()
        return Prediction(self.classify(centers).float(), boxes, masks)


def fractions_of_canvas(
    shapes: Sequence[tuple[int, int]], canvases: Sequence[tuple[int, int]]
) -> list[tuple[float, float]] | None:
    """What the decoder is told of padding.

    Args:
        shapes: Rows and columns of every image.
        canvases: Those of the padded batch, for every image.

    Returns:
        Rows and columns of the images over those of the batch; ``None`` where nothing
        is padded.
    """
    sizes = [
        (shape[0] / canvas[0], shape[1] / canvas[1])
        for shape, canvas in zip(shapes, canvases, strict=True)
    ]
    return None if all(size == (1, 1) for size in sizes) else sizes


def padding_of(x: Tensor, sizes: Sequence[tuple[float, float]] | None) -> Tensor:
    """Which points of a map are padding.

    Args:
        x: ``(B, C, h, w)``.
        sizes: As for :meth:`ClusterDecoder.forward`.

    Returns:
        ``(B, h, w)`` bool. A point counts as image if its cell begins inside it, so
        that the smallest image has one.
    """
    batch, _, height, width = x.shape
    padding = torch.zeros(batch, height, width, dtype=torch.bool, device=x.device)
    for pad, (rows, columns) in zip(padding, sizes or (), strict=False):
        # A fraction that is meant to give a whole number may lie a little above it.
        pad[ceil(rows * height - 1e-6) :] = True
        pad[:, ceil(columns * width - 1e-6) :] = True
    return padding


def sample(x: Tensor, padding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pool every image without its padding to a grid of centers.

    Args:
        x: ``(B, E, h, w)``.
        padding: ``(B, h, w)`` bool, at the bottom and right.
        grid: Rows and columns.

    Returns:
        ``(B, rows * columns, E)``.
    """
    rows = (~padding[:, :, 0]).sum(dim=1).tolist()
    columns = (~padding[:, 0]).sum(dim=1).tolist()
    pooled = [
        F.adaptive_avg_pool2d(image[:, :height, :width], grid)
        for image, height, width in zip(x, rows, columns, strict=True)
    ]
    return torch.stack(pooled).flatten(2).transpose(1, 2)


def grid_cells(rows: int, columns: int, device: torch.device) -> Tensor:
    """Cells of a grid over the image: ``(1, rows * columns, 4)``, center and size."""
    y = (torch.arange(rows, device=device) + 0.5) / rows
    x = (torch.arange(columns, device=device) + 0.5) / columns
    y, x = torch.meshgrid(y, x, indexing="ij")
    sizes = [torch.full_like(x, 1 / columns), torch.full_like(y, 1 / rows)]
    return torch.stack([x, y, *sizes], dim=-1).flatten(0, 1).unsqueeze(0)
