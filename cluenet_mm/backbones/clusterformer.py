"""ClusterFormer: clustering by recurrent cross-attention.

"ClusterFormer: Clustering As A Universal Visual Learner" (NeurIPS 2023, arXiv
2309.13196); release Apache-2.0. We follow the paper: the released code fails at 224
pixels, and its reshapes mix pixels with channels. What the paper leaves open, and what
we chose:

* *Width.* The heads together are as wide as the map, so the width of a head is 32.
* *Initial centers.* Adaptive average pooling of the values to a grid, then the FFN:
  Linear, GELU, Linear as wide as one head and shared by the heads. An FFN over all
  channels would exceed the published sizes.
* *Recurrence.* The queries of every iteration come from the centers of the one before;
  keys and values are computed once. The residual is around all iterations together:
  the centers that speak are the initial ones plus the last means.
* *Standardized centers.* In front of the queries, every channel has mean 0 and variance
  1 over the centers, and queries and keys start from Xavier's distribution. As the
  formula stands, all shares are even at the beginning, the centers become equal within
  two iterations, and queries and keys get next to no gradient
  (:class:`~cluenet_mm.layers.RecurrentClustering`). No parameters, no MACs.
* *Dispatching.* Centers live in the space of the values, so ``sim(C_l, p)`` is the
  cosine of a center and the point's value. The sum ``(1/L) sum_l sim(C_l, p) C_l`` is
  linear in the value's direction: per head a ``D x D`` matrix is made of the centers
  and multiplied with the points, and no table of points and centers exists.
* *MLP behind it.* Linear, GELU, Linear with half the channels between, which comes
  nearest to the published sizes; the block's own MLP has ratio 4, 8 in narrow stages
  of the variant for CIFAR.
* *Norms and residuals.* Normalized before each part, GroupNorm with one group; no
  LayerScale. Initialized as Context Cluster, but for queries and keys.
* *Regions.* None by default (``fold_grids=1``). Where a map is padded to fill them, the
  padding gives no mass; a cell of nothing but padding starts as a copy of the first.
* *Embedding.* That of the other families, coordinates included.
* *Assignment.* For pictures and numbers, a point belongs to the center with the
  largest share of it in the last E-step.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from ..layers import (
    MLP,
    ChannelLinear,
    MapNorm,
    PointEmbedding,
    PointReducer,
    PointwiseConv,
    RecurrentClustering,
    SoftAssignment,
)
from ..ops import Folds, grid_centers, merge_heads, split_heads, unit
from ..registry import MODELS
from .base import ClusterBackbone, Grids, per_stage, resolve_arch
from .block import ClusterBlock
from .region import RegionBackbone


class RecurrentMixer(nn.Module):
    """Cluster by recurrent cross-attention, then dispatch features by similarity.

    Args:
        channels: Channels ``C`` of the map.
        num_heads: Number of heads ``G``.
        cluster_grid: Rows and columns of centers in a region; ``L`` is their product.
        fold_grid: Rows and columns of regions.
        num_iterations: Iterations ``T`` of the clustering.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        cluster_grid: tuple[int, int],
        fold_grid: tuple[int, int],
        num_iterations: int,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.cluster_grid = cluster_grid
        self.fold_grid = fold_grid
        self.key = PointwiseConv(channels, channels)
        self.value = PointwiseConv(channels, channels)
        head_dims = channels // num_heads
        self.initial = nn.Sequential(
            nn.Linear(head_dims, head_dims), nn.GELU(), nn.Linear(head_dims, head_dims)
        )
        self.clustering = RecurrentClustering(channels, num_heads, num_iterations)
        self.message = nn.Sequential(
            ChannelLinear(channels, channels // 2),
            nn.GELU(),
            ChannelLinear(channels // 2, channels),
        )

    @property
    def assignment(self) -> SoftAssignment:
        """The module that sees every step of the clustering."""
        return self.clustering.assignment

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Mix a map ``(B, H, W, C)`` to the same shape; blocks share no state."""
        folds = Folds.of(x.shape[1:3], self.fold_grid, x.device)
        values = folds.fold(self.value(x))  # (B * regions, h, w, C)
        keys = split_heads(folds.fold(self.key(x)), self.num_heads)
        pooled = grid_centers(values, self.cluster_grid, folds.valid)
        initial = self.initial(split_heads(pooled, self.num_heads))  # (.., G, L, D)
        values = split_heads(values, self.num_heads)  # (B * regions, G, N, D)

        initial = merge_heads(initial)  # (B * regions, L, C)
        mask = folds.point_mask(values.size(0))
        centers = initial + self.clustering(initial, keys, values, mask)
        out = dispatch_by_similarity(split_heads(centers, self.num_heads), values)
        out = folds.unfold(merge_heads(out).unflatten(1, folds.region))
        return self.message(out), state


def dispatch_by_similarity(centers: Tensor, points: Tensor) -> Tensor:
    """Feature dispatching: ``(1/L) sum_l cos(C_l, p) C_l`` for every point ``p``.

    Args:
        centers: ``(B, G, L, D)``.
        points: ``(B, G, N, D)``.

    Returns:
        ``(B, G, N, D)``.
    """
    # (B, G, D, L) x (B, G, L, D): small, whatever the number of points.
    matrix = unit(centers).transpose(-2, -1) @ centers / centers.size(2)
    return unit(points) @ matrix


@MODELS.register_module()
class ClusterFormer(ClusterBackbone):
    """ClusterFormer backbone for classification, detection and segmentation.

    Args:
        arch: Variant: ``mini_cifar`` (for 32 px), ``tiny``, ``small``, or a dict with
            the keys of a row of ``arch_settings``.
        cluster_grids: Centers per stage, region and head, as rows and columns: an int
            for squares in all stages, or one int or pair per stage. They are no weights
            and may change after training, as may ``fold_grids`` and
            ``num_iterations``.
        fold_grids: Regions per stage, in the same forms; 1 clusters the whole map.
        num_iterations: Iterations of the recurrent clustering; the paper takes 3.
        in_channels: Channels of the image.
        out_indices: Stages to return; negative ones count from the end.
        frozen_stages: -1 freezes nothing, ``k`` the embedding and ``k`` stages.
        drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Stochastic-depth rate of the last block.
        with_cp: Whether to trade time for memory by activation checkpointing.
        nearest_cells: 0 returns maps alone; with 1 the memberships follow them, see
            :meth:`forward`.
        init_cfg: Initialization config; ``None`` initializes as the module says.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> model = ClusterFormer("tiny", out_indices=(0, 1, 2, 3))
        >>> [tuple(f.shape) for f in model(torch.rand(1, 3, 64, 96))]
        [(1, 96, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)]
    """

    arch_settings: ClassVar[dict[str, dict]] = {
        "mini_cifar": {
            "depths": (2, 2, 2, 2),
            "embed_dims": (32, 64, 160, 256),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (1, 2, 5, 8),
            "patch": (3, 1, 1),
        },
        "tiny": {
            "depths": (2, 2, 6, 2),
            "embed_dims": (96, 192, 384, 768),
            "mlp_ratios": (4, 4, 4, 4),
            "num_heads": (3, 6, 12, 24),
            "patch": (4, 4, 0),
        },
        "small": {
            "depths": (2, 2, 18, 2),
            "embed_dims": (96, 192, 384, 768),
            "mlp_ratios": (4, 4, 4, 4),
            "num_heads": (3, 6, 12, 24),
            "patch": (4, 4, 0),
        },
    }

    def __init__(
        self,
        arch: str | dict = "tiny",
        cluster_grids: Grids = 7,
        fold_grids: Grids = 1,
        num_iterations: int = 3,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        nearest_cells: int = 0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        row = resolve_arch(arch, self.arch_settings)
        dims = row["embed_dims"]
        grids = per_stage(cluster_grids, len(dims), "cluster_grids")
        folds = per_stage(fold_grids, len(dims), "fold_grids")
        super().__init__(
            row,
            PointEmbedding(in_channels, dims[0], row["patch"]),
            MapNorm,
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
                    RecurrentMixer(
                        channels,
                        row["num_heads"][i],
                        grids[i],
                        folds[i],
                        num_iterations,
                    ),
                    MLP(channels, int(row["mlp_ratios"][i] * channels), drop_rate),
                    MapNorm,
                    channels,
                    rate,
                )
                for rate in self.drop_path_rates[i]
            ]
            self.add_stage(blocks, PointReducer(dims[i - 1], channels) if i else None)

    @staticmethod
    def init_layer(module: nn.Module) -> None:
        """Initialize one module.

        Queries and keys get variance 1 of inputs of variance 1, and so do their dot
        products, scaled as in attention. The rest is as in Context Cluster.

        Args:
            module: Any module; others are left alone.
        """
        RegionBackbone.init_layer(module)
        if isinstance(module, RecurrentMixer):
            nn.init.xavier_uniform_(module.key.weight)
            nn.init.xavier_uniform_(module.clustering.query.weight)
