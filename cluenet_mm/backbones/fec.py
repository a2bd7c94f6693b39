"""FEC: feature extraction by clustering.

"Neural Clustering based Visual Representation Learning" (CVPR 2024, arXiv 2403.17409);
release guikunchen/FEC (Apache-2.0). The mathematics is the release's, the flaw of its
pooling included (see ``ClusterPool``). Deliberate differences, none of which changes a
result beyond rounding:

* An assignment is an index and one similarity per point, not a table, and the arg-max
  is not taken of a saturating sigmoid (see ``ScaledAssignment``).
* The output projection is applied to the centers instead of to the points that receive
  them: both are linear, and the centers are few.
* Maps are channels-last, so 1x1 convolutions are Linear layers.
* Maps that do not divide into regions are padded, and the padding joins no center; odd
  maps are pooled to the ceiling of half their size (the release fails on both).
"""

from collections.abc import Sequence
from typing import ClassVar

from ..layers import ClusterPool
from ..registry import MODELS
from .base import Grids, resolve_arch
from .region import RegionBackbone


@MODELS.register_module()
class FEC(RegionBackbone):
    """FEC backbone for classification, detection and segmentation.

    Args:
        arch: Variant: ``mini_cifar`` (for 32 px), ``small``, ``base``, ``large``, or a
            dict with the keys of a row of ``arch_settings``.
        cluster_grids: Centers per stage, region and head, as rows and columns: an int
            for squares in all stages, or one int or pair per stage. They are no weights
            and may change after training, as may ``fold_grids``. The paper takes the
            default for classification, 7 for detection and 10, 10, 5, 5 for
            segmentation.
        fold_grids: Regions per stage, in the same forms; 2, 2, 1, 1 for detection. A
            reducer clusters inside the regions of the stage behind it.
        in_channels: Channels of the image.
        out_indices: Stages to return; negative ones count from the end.
        frozen_stages: -1 freezes nothing, ``k`` the embedding and ``k`` stages.
        drop_rate: Dropout probability in the MLPs.
        drop_path_rate: Stochastic-depth rate of the last block.
        layer_scale_init: Initial scale of both branches of a block (LayerScale).
        with_cp: Whether to trade time for memory by activation checkpointing.
        nearest_cells: 0 returns maps alone; with 1 the memberships follow them, see
            :meth:`forward`; with more the nearest cells and their similarities.
        pool_window: 0 pools a point to the most similar center of its region, as the
            release does; an odd side limits it to the square of centers around half its
            row and column. It is not a weight.
        init_cfg: Initialization config; ``None`` initializes as the release does.
        proposal_grids: Old name of ``cluster_grids``.

    Raises:
        ValueError: If an option is unknown or out of range.

    Example:
        >>> model = FEC("small", out_indices=(0, 1, 2, 3))
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
        "small": {
            "depths": (3, 4, 5, 2),
            "embed_dims": (32, 64, 196, 320),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (4, 4, 8, 8),
            "head_dims": 24,
            "patch": (4, 4, 0),
        },
        "base": {
            "depths": (2, 2, 6, 2),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (4, 4, 8, 8),
            "head_dims": 32,
            "patch": (4, 4, 0),
        },
        "large": {
            "depths": (4, 4, 12, 4),
            "embed_dims": (64, 128, 320, 512),
            "mlp_ratios": (8, 8, 4, 4),
            "num_heads": (6, 6, 12, 12),
            "head_dims": 32,
            "patch": (4, 4, 0),
        },
    }

    def __init__(
        self,
        arch: str | dict = "small",
        cluster_grids: Grids = (4, 4, 2, 2),
        fold_grids: Grids = 1,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale_init: float = 1e-5,
        with_cp: bool = False,
        nearest_cells: int = 0,
        pool_window: int = 0,
        init_cfg: dict | list[dict] | None = None,
        proposal_grids: Grids | None = None,
    ) -> None:
        super().__init__(
            resolve_arch(arch, self.arch_settings),
            "mean",
            lambda *sizes: ClusterPool(*sizes, pool_window),
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
