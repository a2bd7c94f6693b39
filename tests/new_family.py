"""A family of one file, as CONTRIBUTING.md describes: points become their centers."""

from typing import ClassVar

from torch import Tensor, nn

from cluenet_mm.backbones.base import ClusterBackbone, per_stage, resolve_arch
from cluenet_mm.backbones.block import ClusterBlock
from cluenet_mm.layers import (
    MLP,
    MapNorm,
    PointEmbedding,
    PointReducer,
    PointwiseConv,
    ScaledAssignment,
)
from cluenet_mm.ops import grid_centers, merge_heads, split_heads
from cluenet_mm.registry import MODELS


class CenterMixer(nn.Module):
    def __init__(self, channels: int, heads: int, cluster_grid: tuple) -> None:
        super().__init__()
        self.heads, self.cluster_grid, self.fold_grid = heads, cluster_grid, (1, 1)
        self.key = PointwiseConv(channels, channels)
        self.assignment = ScaledAssignment()

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        keys = self.key(x)
        centers = split_heads(grid_centers(keys, self.cluster_grid), self.heads)
        index, similarity = self.assignment(split_heads(keys, self.heads), centers)
        members = index.unsqueeze(-1).expand(-1, -1, -1, centers.size(-1))
        out = centers.gather(2, members) * similarity.unsqueeze(-1)
        return merge_heads(out).unflatten(1, x.shape[1:3]), state


@MODELS.register_module()
class CenterNet(ClusterBackbone):
    arch_settings: ClassVar[dict[str, dict]] = {
        "micro": {
            "depths": (1, 1),
            "embed_dims": (16, 32),
            "mlp_ratios": (2, 2),
            "num_heads": (2, 4),
            "patch": (4, 4, 0),
        }
    }

    def __init__(self, arch="micro", cluster_grids=3, out_indices=-1) -> None:
        row = resolve_arch(arch, self.arch_settings)
        dims = row["embed_dims"]
        grids = per_stage(cluster_grids, len(dims), "cluster_grids")
        super().__init__(
            row,
            PointEmbedding(3, dims[0], row["patch"]),
            MapNorm,
            out_indices=out_indices,
            frozen_stages=-1,
            drop_path_rate=0.0,
            with_cp=False,
            nearest_cells=0,
            init_cfg=None,
        )
        for i, channels in enumerate(dims[: self.num_stages]):
            mixer = CenterMixer(channels, row["num_heads"][i], grids[i])
            mlp = MLP(channels, row["mlp_ratios"][i] * channels, 0.0)
            block = ClusterBlock(mixer, mlp, MapNorm, channels, 0.0)
            reducer = PointReducer(dims[i - 1], channels) if i else None
            self.add_stage([block], reducer)
