"""The residual block that all families share."""

from collections.abc import Callable
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn


class ClusterBlock(nn.Module):
    """Residual block: a mixer that clusters, then an MLP, each behind a norm.

    Args:
        mixer: ``mixer(x, state) -> (mixed, state)``: a map ``(B, H, W, C)`` to the same
            shape, and what the blocks of a stage share, ``None`` in the first.
        mlp: ``(B, H, W, C)`` to the same shape.
        norm: Makes the norm of ``C`` channels.
        channels: Channels ``C``.
        drop_path_rate: Stochastic-depth rate of both branches.
        layer_scale_init: Initial scale of both branches per channel (LayerScale);
            ``None`` for none.
    """

    def __init__(
        self,
        mixer: nn.Module,
        mlp: nn.Module,
        norm: Callable[[int], nn.Module],
        channels: int,
        drop_path_rate: float,
        layer_scale_init: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.mixer = mixer
        self.norm2 = norm(channels)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else None
        for name in ("scale1", "scale2"):
            scale = None
            if layer_scale_init is not None:
                scale = nn.Parameter(torch.full((channels,), layer_scale_init))
            self.register_parameter(name, scale)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Map ``(B, H, W, C)`` to the same shape, and pass the state on."""
        mixed, state = self.mixer(self.norm1(x), state)
        x = self._add(x, mixed, self.scale1)
        return self._add(x, self.mlp(self.norm2(x)), self.scale2), state

    def _add(self, x: Tensor, branch: Tensor, scale: nn.Parameter | None) -> Tensor:
        """``x + drop_path(scale * branch)`` in one pass over the map."""
        if self.training and self.drop_path is not None:
            kept = self.drop_path(branch.new_ones(len(branch), 1, 1, 1))
            scale = kept if scale is None else scale * kept
        return x + branch if scale is None else torch.addcmul(x, branch, scale)
