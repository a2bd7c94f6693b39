"""Context Cluster: an image as a set of points.

"Image as Set of Points" (ICLR 2023, arXiv 2303.01494); release ma-xu/Context-Cluster
(Apache-2.0). The mathematics is the release's. Deliberate differences, none of which
changes a result beyond rounding:

* An assignment is an index and one similarity per point, not a table, and the arg-max
  is not taken of a saturating sigmoid (see ``ScaledAssignment``).
* The output projection is applied to the centres instead of to the points that receive
  them: both are linear, and the centres are few.
* Maps are channels-last, so 1x1 convolutions are Linear layers.
* Maps that do not divide into regions are padded, and the padding joins no centre (the
  release fails on them).

The release has changed once: see ``divisor``.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ..layers import PointReducer
from ..ops import hard_aggregate
from ..registry import MODELS
from .base import per_stage, resolve_arch
from .region import RegionBackbone


def weighted_mean(
    values: Tensor,
    index: Tensor,
    similarity: Tensor,
    own: Tensor,
    members: Tensor | None,
    impl: str,
) -> Tensor:
    """``(sum s * V + pooled V) / (sum s + 1)``; see :class:`.region.Aggregate`."""
    weights = similarity if members is None else similarity * members
    return hard_aggregate(values, index, own, weights, impl=impl)


def weighted_sum_over_count(
    values: Tensor,
    index: Tensor,
    similarity: Tensor,
    own: Tensor,
    members: Tensor | None,
    impl: str,
) -> Tensor:
    """``(sum s * V + pooled V) / (members + 1)``, of the first released weights."""
    values = values * similarity.unsqueeze(-1)
    return hard_aggregate(values, index, own, members, impl=impl)


DIVISORS = {"similarity": weighted_mean, "members": weighted_sum_over_count}


@MODELS.register_module()
class ContextCluster(RegionBackbone):
    """Context Cluster (CoC) backbone for classification, detection and segmentation.

    Args:
        arch: Variant: ``mini_cifar`` (for 32 px), ``tiny``, ``small``, ``medium``,
            ``base_dim64``, ``base_dim96``, or a dict with the keys of a row of
            ``arch_settings``. The release's ``coc_tiny_plain`` is ``tiny`` with
            ``proposal_grids=(4, 4, 2, 2)`` and ``fold_grids=1``.
        proposal_grids: Centres per stage, region and head, as rows and columns: an int
            for squares in all stages, or one int or pair per stage. They are no weights
            and may change after training, as may ``fold_grids``.
        fold_grids: Regions per stage, in the same forms.
        divisor: What the sum over a centre's members is divided by: ``similarity``
            (their similarities and one) or ``members`` (their number and one). The
            first generation of released weights needs ``members``; converted weights
            say which.
        in_channels: Channels of the image.
        out_indices: Stages to return; negative ones count from the end.
        frozen_stages: -1 freezes nothing, ``k`` the embedding and ``k`` stages.
        drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Stochastic-depth rate of the last block.
        layer_scale_init: Initial scale of both branches of a block (LayerScale).
        with_cp: Whether to trade time for memory by activation checkpointing.
        impl: Implementation of the clustering, one of
            ``cluenet_mm.ops.IMPLEMENTATIONS``.
        init_cfg: Initialisation config; ``None`` initialises as the release does.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> model = ContextCluster("tiny", out_indices=(0, 1, 2, 3))
        >>> [tuple(f.shape) for f in model(torch.rand(1, 3, 64, 96))]
        [(1, 32, 16, 24), (1, 64, 8, 12), (1, 196, 4, 6), (1, 320, 2, 3)]
    """

    arch_settings: ClassVar[dict[str, dict]] = {
        "mini_cifar": {
            "depths": (2, 2, 2, 2),
            "embed_dims": (32, 64, 160, 256),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (1, 2, 5, 8),
            "head_dims": 32,
            "patch": (3, 1, 1),
        },
        "tiny": {
            "depths": (3, 4, 5, 2),
            "embed_dims": (32, 64, 196, 320),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (4, 4, 8, 8),
            "head_dims": 24,
            "patch": (4, 4, 0),
        },
        "small": {
            "depths": (2, 2, 6, 2),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (4, 4, 8, 8),
            "head_dims": 32,
            "patch": (4, 4, 0),
        },
        "medium": {
            "depths": (4, 4, 12, 4),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (6, 6, 12, 12),
            "head_dims": 32,
            "patch": (4, 4, 0),
        },
        "base_dim64": {
            "depths": (6, 6, 24, 6),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (8, 8, 16, 16),
            "head_dims": 32,
            "patch": (4, 4, 0),
        },
        "base_dim96": {
            "depths": (4, 4, 12, 4),
            "embed_dims": (96, 192, 384, 768),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (8, 8, 16, 16),
            "head_dims": 32,
            "patch": (4, 4, 0),
        },
    }

    def __init__(
        self,
        arch: str | dict = "tiny",
        proposal_grids: int | Sequence[int | tuple[int, int]] = 2,
        fold_grids: int | Sequence[int | tuple[int, int]] = (8, 4, 2, 1),
        divisor: str = "similarity",
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale_init: float = 1e-5,
        with_cp: bool = False,
        impl: str = "auto",
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if divisor not in DIVISORS:
            raise ValueError(f"divisor must be one of {(*DIVISORS,)}, not {divisor!r}")
        row = resolve_arch(arch, self.arch_settings)
        dims, num_stages = row["embed_dims"], len(row["depths"])
        super().__init__(num_stages, out_indices, frozen_stages, with_cp, init_cfg)
        self.divisor = divisor
        self.build_regions(
            row,
            per_stage(proposal_grids, num_stages, "proposal_grids"),
            per_stage(fold_grids, num_stages, "fold_grids"),
            DIVISORS[divisor],
            [PointReducer(dims[i], dims[i + 1]) for i in range(self.num_stages - 1)],
            in_channels,
            drop_rate,
            drop_path_rate,
            layer_scale_init,
            impl,
        )
