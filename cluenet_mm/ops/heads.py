"""Heads of a map or of tokens."""

from torch import Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Give every head its points: a view, no copy.

    Args:
        x: ``(B, ..., G * D)``, a map or tokens.
        num_heads: ``G``.

    Returns:
        ``(B, G, N, D)``, where ``N`` is the product of the dimensions between.
    """
    tokens = x.flatten(1, -2)  # (B, N, G * D)
    dims = x.size(-1) // num_heads  # not -1, which a batch of 0 leaves open
    return tokens.unflatten(2, (num_heads, dims)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """The inverse for tokens: ``(B, G, N, D)`` to ``(B, N, G * D)``."""
    return x.transpose(1, 2).flatten(2)
