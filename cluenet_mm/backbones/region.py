"""Clustering inside regions: what Context Cluster and FEC have in common.

The two differ in how a center adds up its members (a word) and in the reducer between
stages.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..layers import (
    MLP,
    ChannelLinear,
    MapNorm,
    PointEmbedding,
    PointwiseConv,
    ScaledAssignment,
)
from ..ops import (
    Folds,
    dispatch_project,
    grid_centers,
    hard_aggregate,
    split_heads,
    unit,
)
from .base import ClusterBackbone, Grids, per_stage, renamed_grids
from .block import ClusterBlock


class RegionMixer(nn.Module):
    """Cluster the points of every region, aggregate, dispatch.

    Centers are the means of a grid of cells of the region. A point joins the center of
    the largest ``s = sigmoid(beta + alpha * cos)`` and takes ``s`` times the aggregate
    of that center. Maps that do not divide into regions are padded; the padding is no
    member of any center.

    Args:
        channels: Channels ``C`` of the map.
        num_heads: Number of heads ``G``.
        head_dims: Width ``D`` of a head.
        cluster_grid: Rows and columns of centers in a region; ``M`` is their product.
        fold_grid: Rows and columns of regions.
        aggregate: How a center adds up the values ``V`` of its members and its own
            pooled value ``P``: ``"weighted_mean"``, ``(sum s V + P) / (sum s + 1)``;
            ``"weighted_sum"``, ``(sum s V + P) / (members + 1)``; or ``"mean"``,
            ``(sum V + P) / (members + 1)``.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dims: int,
        cluster_grid: tuple[int, int],
        fold_grid: tuple[int, int],
        aggregate: str,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dims
        self.num_heads = num_heads
        self.cluster_grid = cluster_grid
        self.fold_grid = fold_grid
        self.aggregate = aggregate
        self.feature = PointwiseConv(channels, inner)
        self.value = PointwiseConv(channels, inner)
        self.assignment = ScaledAssignment()
        self.proj = PointwiseConv(inner, channels)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Mix a map ``(B, H, W, C)`` to the same shape; blocks share no state."""
        heads = self.num_heads
        folds = Folds.of(x.shape[1:3], self.fold_grid, x.device)
        features = folds.fold(self.feature(x))  # (B * regions, h, w, G * D)
        values = folds.fold(self.value(x))
        centers, own = (
            split_heads(grid_centers(y, self.cluster_grid, folds.valid), heads)
            for y in (features, values)
        )  # (B * regions, G, M, D)
        features, values = split_heads(features, heads), split_heads(values, heads)

        index, similarity = self.assignment(unit(features), centers)
        index = folds.without_repeats(index, self.cluster_grid)
        weights = folds.point_mask(index.size(0))  # (B * regions, 1, N)
        if self.aggregate == "weighted_mean":
            weights = similarity if weights is None else similarity * weights
        elif self.aggregate == "weighted_sum":
            values = values * similarity.unsqueeze(-1)
        centers = hard_aggregate(values, index, own, weights)
        out = dispatch_project(
            centers, index, similarity, self.proj, self.proj.bias
        )  # (B * regions, N, C)
        return folds.unfold(out.unflatten(1, folds.region)), state


class RegionBackbone(ClusterBackbone):
    """Pyramid that clusters by :class:`RegionMixer`.

    Args:
        row: A row of ``arch_settings``.
        aggregate: How a center adds up its members, see :class:`RegionMixer`.
        reducer: Makes a reducer of the channels in front and behind it and the regions
            of the stage behind it.
        cluster_grids: Centers per stage, region and head.
        proposal_grids: Old name of ``cluster_grids``.
        fold_grids: Regions per stage.
        in_channels: Channels of the image.
        drop_rate: Dropout probability in the MLPs.
        layer_scale_init: Initial scale of the branches.
        **options: Those of :class:`.base.ClusterBackbone`.
    """

    def __init__(
        self,
        row: dict,
        aggregate: str,
        reducer: Callable[[int, int, tuple[int, int]], nn.Module],
        *,
        cluster_grids: Grids,
        proposal_grids: Grids | None,
        fold_grids: Grids,
        in_channels: int,
        drop_rate: float,
        layer_scale_init: float,
        **options: Any,
    ) -> None:
        dims, num_stages = row["embed_dims"], len(row["depths"])
        cluster_grids = renamed_grids(cluster_grids, proposal_grids)
        cluster_grids = per_stage(cluster_grids, num_stages, "cluster_grids")
        fold_grids = per_stage(fold_grids, num_stages, "fold_grids")
        super().__init__(
            row,
            PointEmbedding(in_channels, dims[0], row["patch"]),
            MapNorm,
            **options,
        )
        for i in range(self.num_stages):
            channels = dims[i]
            blocks = [
                ClusterBlock(
                    RegionMixer(
                        channels,
                        row["num_heads"][i],
                        row["head_dims"],
                        cluster_grids[i],
                        fold_grids[i],
                        aggregate,
                    ),
                    MLP(channels, int(row["mlp_ratios"][i] * channels), drop_rate),
                    MapNorm,
                    channels,
                    rate,
                    layer_scale_init,
                )
                for rate in self.drop_path_rates[i]
            ]
            pool = reducer(dims[i - 1], channels, fold_grids[i]) if i else None
            self.add_stage(blocks, pool)

    @staticmethod
    def init_layer(module: nn.Module) -> None:
        """Initialize one module as both releases do.

        Linear layers from a truncated normal of deviation 0.02 with zero biases;
        convolutions, 1x1 ones included, keep PyTorch's default.

        Args:
            module: Any module; others are left alone.
        """
        if isinstance(module, ChannelLinear) and not isinstance(module, PointwiseConv):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
