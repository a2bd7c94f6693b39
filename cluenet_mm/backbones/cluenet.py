"""CLUENet: clustering attention that can be looked at.

"CLUENet: Cluster Attention Makes Neural Networks Have Eyes" (AAAI 2026, arXiv
2512.06345); release 52KunKun/CLUENet (MIT). The mathematics is the release's.
Deliberate differences, none of which changes a result beyond rounding:

* Attention runs in the precision of the input through
  ``scaled_dot_product_attention``; the release always casts to fp16 for FlashAttention.
* An assignment is an index and one similarity per point, not a table, and the arg-max
  is not taken of a saturating sigmoid (see ``ScaledAssignment``).
* Where points are many, centers are pooled before the 1x1 projections instead of after
  them; the output projection is applied to the centers instead of to the points that
  receive them. All of these are linear, and the centers are few.
* Maps are channels-last, so 1x1 convolutions are Linear layers.
* Odd maps are pooled to the ceiling of half their size (the release fails on them).
"""

from collections.abc import Sequence
from math import log, sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import (
    ConvMLP,
    HeadGate,
    ImprovedClusterPool,
    PointwiseConv,
    PositionalPointEmbedding,
    ScaledAssignment,
)
from ..ops import (
    Assignment,
    dispatch_project,
    grid_centers,
    merge_heads,
    soft_aggregate,
    split_heads,
    unit,
)
from ..registry import MODELS
from .base import ClusterBackbone, Grids, per_stage, resolve_arch
from .block import ClusterBlock

INITIAL_TEMPERATURE = 2.13
# Points per center from which the initial centers are pooled before projecting.
MANY_POINTS = 8

MICRO_CIFAR = {
    "depths": (2, 2, 2, 2),
    "embed_dims": (32, 64, 160, 256),
    "mlp_ratios": (8, 8, 4, 4),
    "num_heads": (1, 2, 5, 8),
    "head_dims": 32,
    "patch": (3, 1, 1),
    "pool_norm": True,
}


class ClusterAttention(nn.Module):
    """Mixer of CLUENet: aggregate to centers (GSFA), gate, dispatch to points (HSFD).

    Args:
        channels: Channels ``C`` of the map.
        num_heads: Number of heads ``G``.
        head_dims: Width ``D`` of a head.
        cluster_grid: Rows and columns of centers; ``M`` is their product.
        min_temperature: Lower bound of the temperature.
        assigns: Whether the block computes the assignment of its stage (the first
            does) or reuses it.
    """

    # Clusters reach over the whole map.
    fold_grid: ClassVar[tuple[int, int]] = (1, 1)

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dims: int,
        cluster_grid: tuple[int, int],
        min_temperature: float,
        assigns: bool,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dims
        self.num_heads = num_heads
        self.cluster_grid = cluster_grid
        self.log_min_temperature = log(min_temperature)
        self.key = PointwiseConv(channels, inner)
        self.value = PointwiseConv(channels, inner)
        self.attn_alpha = nn.Parameter(torch.tensor(log(INITIAL_TEMPERATURE)))
        self.gate = HeadGate(num_heads, head_dims)
        self.proj = PointwiseConv(inner, channels)
        self.assigns = assigns
        if assigns:
            self.query = nn.Linear(inner, inner)
            self.assignment = ScaledAssignment()

    def forward(
        self, x: Tensor, shared: Assignment | None
    ) -> tuple[Tensor, Assignment]:
        """Mix a map.

        Args:
            x: ``(B, H, W, C)``.
            shared: The stage's assignment, ``None`` in its first block: index and
                sigmoid similarity ``(B, G, H * W)``.

        Returns:
            Mixed map ``(B, H, W, C)`` and the assignment that was used.
        """
        heads = self.num_heads
        keys, values = self.key(x), self.value(x)  # (B, H, W, G * D)
        pooled_keys, pooled_values = self._pool(x, keys, values)  # (B, G, M, D)
        keys, values = (split_heads(y, heads) for y in (keys, values))
        keys = unit(keys)  # (B, G, N, D)

        temperature = self.attn_alpha.clamp(min=self.log_min_temperature).exp()
        centers = soft_aggregate(pooled_keys, keys, values, temperature)
        centers = self.gate(centers, pooled_values)
        if self.assigns:
            queries = self.query(merge_heads(centers))
            shared = self.assignment(keys, split_heads(queries, heads))

        out = dispatch_project(centers, *shared, self.proj, self.proj.bias)
        return out.unflatten(1, x.shape[1:3]), shared

    def _pool(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the initial centers, ``(B, G, M, D)`` each."""
        rows, columns = self.cluster_grid
        if x.shape[1:3] == self.cluster_grid:
            pooled = keys, values
        elif x.size(1) * x.size(2) > MANY_POINTS * rows * columns:
            # Pooling and projecting are both linear: projecting the few centers again
            # is cheaper than pooling two wide maps.
            centers = grid_centers(x, self.cluster_grid)
            centers = centers.unflatten(1, self.cluster_grid)
            pooled = self.key(centers), self.value(centers)
        else:
            pooled = [grid_centers(y, self.cluster_grid) for y in (keys, values)]
        keys, values = (split_heads(y, self.num_heads) for y in pooled)
        return keys, values


@MODELS.register_module()
class CLUENet(ClusterBackbone):
    """CLUENet backbone for classification, detection and segmentation.

    Args:
        arch: Variant: ``micro_cifar`` (for 32 px), ``micro``, ``tiny``, ``small``,
            ``base``, or a dict with the keys of a row of ``arch_settings``.
        cluster_grids: Centers per stage and head, as rows and columns: an int for
            squares in all stages, or one int or pair per stage. They are not weights
            and may change after training. The paper takes 4 for 32 px and 7 for 224 px.
        in_channels: Channels of the image.
        out_indices: Stages to return; negative ones count from the end.
        frozen_stages: -1 freezes nothing, ``k`` the embedding and ``k`` stages.
        drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Stochastic-depth rate of the last block.
        min_temperature: Lower bound of the attention's temperature.
        with_cp: Whether to trade time for memory by activation checkpointing.
        nearest_cells: 0 returns maps alone; with 1 the memberships follow them, see
            :meth:`forward`; with more the nearest cells and their similarities.
        pool_window: 0 pools a point to the most similar center of its map, as the
            release does; an odd side limits it to the square of centers around half its
            row and column. It is not a weight.
        init_cfg: Initialization config; ``None`` initializes as the release does.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> model = CLUENet("tiny", out_indices=(0, 1, 2, 3))
        >>> [tuple(f.shape) for f in model(torch.rand(1, 3, 64, 96))]
        [(1, 32, 16, 24), (1, 64, 8, 12), (1, 196, 4, 6), (1, 320, 2, 3)]
    """

    arch_settings: ClassVar[dict[str, dict]] = {
        "micro_cifar": MICRO_CIFAR,
        "micro": {**MICRO_CIFAR, "patch": (4, 4, 0)},
        "tiny": {
            "depths": (3, 4, 5, 2),
            "embed_dims": (32, 64, 196, 320),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (4, 4, 8, 8),
            "head_dims": 24,
            "patch": (4, 4, 0),
            "pool_norm": False,
        },
        "small": {
            "depths": (2, 2, 6, 2),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (4, 4, 8, 8),
            "head_dims": 32,
            "patch": (4, 4, 0),
            "pool_norm": False,
        },
        "base": {
            "depths": (4, 4, 12, 4),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (6, 6, 12, 12),
            "head_dims": 32,
            "patch": (4, 4, 0),
            "pool_norm": False,
        },
    }

    def __init__(
        self,
        arch: str | dict = "tiny",
        cluster_grids: Grids = 7,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        min_temperature: float = 1e-4,
        with_cp: bool = False,
        nearest_cells: int = 0,
        pool_window: int = 0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        row = resolve_arch(arch, self.arch_settings)
        dims = row["embed_dims"]
        grids = per_stage(cluster_grids, len(dims), "cluster_grids")
        super().__init__(
            row,
            PositionalPointEmbedding(in_channels, dims[0], row["patch"]),
            nn.LayerNorm,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            drop_path_rate=drop_path_rate,
            with_cp=with_cp,
            nearest_cells=nearest_cells,
            init_cfg=init_cfg,
        )
        for i in range(self.num_stages):
            channels = dims[i]
            blocks = [
                ClusterBlock(
                    ClusterAttention(
                        channels,
                        row["num_heads"][i],
                        row["head_dims"],
                        grids[i],
                        min_temperature,
                        assigns=depth == 0,
                    ),
                    ConvMLP(channels, int(row["mlp_ratios"][i] * channels), drop_rate),
                    nn.LayerNorm,
                    channels,
                    rate,
                )
                for depth, rate in enumerate(self.drop_path_rates[i])
            ]
            pool = None
            if i > 0:
                pool = ImprovedClusterPool(
                    dims[i - 1], channels, row["pool_norm"], pool_window
                )
            self.add_stage(blocks, pool)

    @staticmethod
    def init_layer(module: nn.Module) -> None:
        """Initialize one module as the release does.

        Linear layers from a truncated normal of deviation 0.02; convolutions, 1x1
        ones included, from N(0, sqrt(2 / fan_out)) with
        ``fan_out = kernel area * out_channels / groups``; biases zero.

        Args:
            module: Any module; others are left alone.
        """
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            fan_out = area * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=sqrt(2 / fan_out))
            nn.init.zeros_(module.bias)
        elif isinstance(module, PointwiseConv):
            nn.init.normal_(module.weight, std=sqrt(2 / module.out_features))
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
