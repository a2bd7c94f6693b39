"""Context Cluster: an image as a set of points.

"Image as Set of Points" (ICLR 2023, arXiv 2303.01494); release ma-xu/Context-Cluster
(Apache-2.0). The mathematics is the release's. Deliberate differences, none of which
changes a result beyond rounding:

* An assignment is an index and one similarity per point, not a table, and the arg-max
  is not taken of a saturating sigmoid (see ``ScaledAssignment``).
* The output projection is applied to the centers instead of to the points that receive
  them: both are linear, and the centers are few.
* Maps are channels-last, so 1x1 convolutions are Linear layers.
* Maps that do not divide into regions are padded, and the padding joins no center (the
  release fails on them).

The release has changed once: see ``divisor``.
"""

from collections.abc import Sequence
from typing import ClassVar

from ..layers import PointReducer
from ..registry import MODELS
from .base import Grids, resolve_arch
from .region import RegionBackbone

DIVISORS = {"similarity": "weighted_mean", "members": "weighted_sum"}


@MODELS.register_module()
class ContextCluster(RegionBackbone):
    """Context Cluster (CoC) backbone for classification, detection and segmentation.

    Args:
        arch: Variant: ``mini_cifar`` (for 32 px), ``tiny``, ``small``, ``medium``,
            ``base_dim64``, ``base_dim96``, or a dict with the keys of a row of
            ``arch_settings``. The release's ``coc_tiny_plain`` is ``tiny`` with
            ``cluster_grids=(4, 4, 2, 2)`` and ``fold_grids=1``.
        cluster_grids: Centers per stage, region and head, as rows and columns: an int
            for squares in all stages, or one int or pair per stage. They are no weights
            and may change after training, as may ``fold_grids``.
        fold_grids: Regions per stage, in the same forms.
        divisor: What the sum over a center's members is divided by: ``similarity``
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
        nearest_cells: 0 returns maps alone; with 1 the memberships follow them, see
            :meth:`forward`.
        init_cfg: Initialization config; ``None`` initializes as the release does.
        proposal_grids: Old name of ``cluster_grids``.

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
        cluster_grids: Grids = 2,
        fold_grids: Grids = (8, 4, 2, 1),
        divisor: str = "similarity",
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale_init: float = 1e-5,
        with_cp: bool = False,
        nearest_cells: int = 0,
        init_cfg: dict | list[dict] | None = None,
        proposal_grids: Grids | None = None,
    ) -> None:
        if divisor not in DIVISORS:
            raise ValueError(f"divisor must be one of {(*DIVISORS,)}, not {divisor!r}")
        super().__init__(
            resolve_arch(arch, self.arch_settings),
            DIVISORS[divisor],
            lambda channels, out_channels, _: PointReducer(channels, out_channels),
            cluster_grids=cluster_grids,
            proposal_grids=proposal_grids,
            fold_grids=fold_grids,
            in_channels=in_channels,
            drop_rate=drop_rate,
            layer_scale_init=layer_scale_init,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            drop_path_rate=drop_path_rate,
            with_cp=with_cp,
            nearest_cells=nearest_cells,
            init_cfg=init_cfg,
        )
        self.divisor = divisor
