"""Clustering inside regions: what Context Cluster and FEC have in common.

The two differ in how a centre adds up its members (:class:`Aggregate`) and in the
reducer between stages.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from ..layers import (
    MLP,
    ChannelLinear,
    MapNorm,
    PointEmbedding,
    PointwiseConv,
    ScaledAssignment,
)
from ..ops import Folds, dispatch_project, grid_centers, split_heads, unit
from .base import ClusterBackbone, drop_path_rates
from .block import ClusterBlock


class Aggregate(Protocol):
    """How a centre adds up its members."""

    def __call__(
        self,
        values: Tensor,
        index: Tensor,
        similarity: Tensor,
        own: Tensor,
        members: Tensor | None,
        impl: str,
    ) -> Tensor:
        """Aggregate inside regions.

        Args:
            values: ``(B * regions, G, N, D)``.
            index: ``(B * regions, G, N)`` int64, the centre of each point.
            similarity: ``(B * regions, G, N)``, that of each point and its centre.
            own: ``(B * regions, G, M, D)``, pooled values of the centres.
            members: ``(B * regions, 1, N)``, zero for padding, or ``None``.
            impl: Implementation of the sums.

        Returns:
            ``(B * regions, G, M, D)``.
        """


class RegionMixer(nn.Module):
    """Cluster the points of every region, aggregate, dispatch.

    Centres are the means of a grid of cells of the region. A point joins the centre of
    the largest ``s = sigmoid(beta + alpha * cos)`` and takes ``s`` times the aggregate
    of that centre. Maps that do not divide into regions are padded; the padding is no
    member of any centre.

    Args:
        channels: Channels ``C`` of the map.
        num_heads: Number of heads ``G``.
        head_dims: Width ``D`` of a head.
        proposal_grid: Rows and columns of centres in a region; ``M`` is their product.
        fold_grid: Rows and columns of regions.
        aggregate: How a centre adds up its members.
        impl: Implementation of assignment, aggregation and dispatching.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_dims: int,
        proposal_grid: tuple[int, int],
        fold_grid: tuple[int, int],
        aggregate: Aggregate,
        impl: str,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dims
        self.num_heads = num_heads
        self.proposal_grid = proposal_grid
        self.fold_grid = fold_grid
        self.aggregate = aggregate
        self.impl = impl
        self.feature = PointwiseConv(channels, inner)
        self.value = PointwiseConv(channels, inner)
        self.assignment = ScaledAssignment(impl=impl)
        self.proj = PointwiseConv(inner, channels)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Mix a map ``(B, H, W, C)`` to the same shape; blocks share no state."""
        heads = self.num_heads
        folds = Folds.of(x.shape[1:3], self.fold_grid, x.device)
        features = folds.fold(self.feature(x))  # (B * regions, h, w, G * D)
        values = folds.fold(self.value(x))
        centers, own = (
            split_heads(grid_centers(y, self.proposal_grid, folds.valid), heads)
            for y in (features, values)
        )  # (B * regions, G, M, D)
        features, values = split_heads(features, heads), split_heads(values, heads)

        index, similarity = self.assignment(unit(features), centers)
        index = folds.without_repeats(index, self.proposal_grid)
        centers = self.aggregate(
            values, index, similarity, own, folds.members(index.size(0)), self.impl
        )
        out = dispatch_project(
            centers, index, similarity, self.proj, self.proj.bias, impl=self.impl
        )  # (B * regions, N, C)
        return folds.unfold(out.unflatten(1, folds.region)), state


class RegionBackbone(ClusterBackbone):
    """Pyramid that clusters by :class:`RegionMixer`."""

    def build_regions(
        self,
        row: dict,
        proposal_grids: Sequence[tuple[int, int]],
        fold_grids: Sequence[tuple[int, int]],
        aggregate: Aggregate,
        reducers: Sequence[nn.Module],
        in_channels: int,
        drop_rate: float,
        drop_path_rate: float,
        layer_scale_init: float,
        impl: str,
    ) -> None:
        """Build all parts.

        Args:
            row: A row of ``arch_settings``.
            proposal_grids: Centres per stage, region and head.
            fold_grids: Regions per stage.
            aggregate: How a centre adds up its members.
            reducers: ``num_stages - 1`` modules, each in front of a stage.
            in_channels: Channels of the image.
            drop_rate: Dropout probability in the MLPs.
            drop_path_rate: Stochastic-depth rate of the last block.
            layer_scale_init: Initial scale of the branches.
            impl: Implementation of the clustering.
        """
        dims, depths = row["embed_dims"], row["depths"]
        rates = drop_path_rates(drop_path_rate, depths)

        def block(stage: int, depth: int) -> ClusterBlock:
            channels = dims[stage]
            mixer = RegionMixer(
                channels,
                row["num_heads"][stage],
                row["head_dims"],
                proposal_grids[stage],
                fold_grids[stage],
                aggregate,
                impl,
            )
            mlp = MLP(channels, row["mlp_ratios"][stage] * channels, drop_rate)
            return ClusterBlock(
                mixer, mlp, MapNorm, channels, rates[stage][depth], layer_scale_init
            )

        self.build(
            embed=PointEmbedding(in_channels, dims[0], row["patch"]),
            reducers=reducers,
            stages=[
                [block(i, j) for j in range(depths[i])] for i in range(self.num_stages)
            ],
            norms=[MapNorm(dims[i]) for i in self.out_indices],
        )

    @staticmethod
    def init_layer(module: nn.Module) -> None:
        """Initialise one module as both releases do.

        Linear layers from a truncated normal of deviation 0.02 with zero biases;
        convolutions, 1x1 ones included, keep PyTorch's default.

        Args:
            module: Any module; others are left alone.
        """
        if isinstance(module, ChannelLinear) and not isinstance(module, PointwiseConv):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
