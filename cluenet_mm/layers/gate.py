"""Gated fusion of two descriptions of a center."""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HeadGate(nn.Module):
    """Convex mix of aggregated and pooled centers, one weight per center and head.

    ``g = sigmoid(fc2(GELU(fc1([aggregated, pooled]))))`` and
    ``(1 - g) * aggregated + g * pooled`` (CLUENet, gated feature fusion). Each head
    has its own two layers.

    Args:
        num_heads: Number of heads ``G``.
        head_dims: Width ``D`` of a head.
    """

    def __init__(self, num_heads: int, head_dims: int) -> None:
        super().__init__()
        hidden = head_dims // 2
        self.fc1 = HeadLinear(num_heads, 2 * head_dims, hidden)
        self.fc2 = HeadLinear(num_heads, hidden, 1)

    def forward(self, aggregated: Tensor, pooled: Tensor) -> Tensor:
        """Mix two tensors ``(B, G, M, D)`` into one."""
        hidden = F.gelu(self.fc1(torch.cat([aggregated, pooled], dim=-1)))
        gate = self.fc2(hidden).sigmoid()  # (B, G, M, 1)
        return aggregated + gate * (pooled - aggregated)


class HeadLinear(nn.Module):
    """One linear layer per head.

    Starts as the release's does, ``kaiming_uniform_(a=sqrt(5))`` over the whole
    ``(G, out, in)`` weight, so uniform within ``1 / sqrt(out * in)``, with a zero bias.

    Args:
        num_heads: Number of heads ``G``.
        in_features: Input width.
        out_features: Output width.
    """

    def __init__(self, num_heads: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_heads, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_heads, out_features))
        nn.init.kaiming_uniform_(self.weight, a=sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, G, M, in_features)`` to ``(B, G, M, out_features)``."""
        out = x @ self.weight.transpose(-2, -1)
        # Under autocast the product is in low precision and stays so.
        return out + self.bias.unsqueeze(-2).to(out.dtype)
