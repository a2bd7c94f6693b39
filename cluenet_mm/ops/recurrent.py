"""Soft clustering as expectation and maximization (ClusterFormer).

The E-step shares every point out among the centers: softmax over the *centers* of
``scale * query . key``. The M-step makes every center the mean of the values of the
points, weighted by its shares. Attention would take the softmax over the points; here
centers compete for points.

The table of shares has a cell per center and point. The definition keeps it for the
backward pass; otherwise it is made tile by tile of points, and again in the backward
pass. On CUDA one kernel makes the tiles of the forward pass and keeps them to itself.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .assign import HAS_TRITON, Assignment
from .assign.tiled import tile_bytes
from .implementation import current_implementation, is_exporting

# Mass, in points, below which a center counts as empty; it bounds the gradient.
MIN_MASS = 1e-6


def em_step(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    point_mask: Tensor | None = None,
) -> Tensor:
    """One E-step and one M-step.

    With ``scale`` towards infinity, that is a temperature towards zero, this is a step
    of k-means: queries ``[c, -|c|^2 / 2]`` and keys ``[x, 1]`` rank the centers by
    Euclidean distance.

    Args:
        queries: ``(B, G, L, D)``, what centers look for.
        keys: ``(B, G, N, D)``, same dtype.
        values: ``(B, G, N, E)``.
        scale: Factor of the dot products, the inverse of a temperature.
        point_mask: ``(B, 1 or G, N)`` of zeros and ones; points with zero, such as
            padding, give no mass to any center. No gradient.

    Returns:
        The new centers ``(B, G, L, E)`` in the dtype of the queries, zero where a
        center got no mass. Computed in fp32 at least: masses are sums over all points.
    """
    inputs = queries, keys, values, point_mask, scale
    with _without_autocast(queries.device.type):
        if current_implementation() == "naive" or is_exporting():
            centers = _dense_step(*inputs)
        else:
            size = _tile_size(queries, keys)
            fused = _has_kernel(queries, keys, values)
            centers = _EMStep.apply(*inputs, size, fused)[0]
    return centers.to(queries.dtype)


def soft_assign(queries: Tensor, keys: Tensor, scale: float) -> Assignment:
    """The center that has the largest share of each point, without gradient.

    Args:
        queries: As for :func:`em_step`.
        keys: As for :func:`em_step`.
        scale: As for :func:`em_step`.

    Returns:
        Index ``(B, G, N)`` int64 and share ``(B, G, N)``, at least ``1 / L``. Ties go
        to the lowest index.
    """
    queries, keys = _widen(queries.detach()) * scale, keys.detach()
    size = _tile_size(queries, keys)
    with _without_autocast(queries.device.type):
        tiles = keys.split(size, dim=2)
        best = [_shares(queries, tile, None).max(dim=-1) for tile in tiles]
    shares, index = (torch.cat(parts, dim=-1) for parts in zip(*best, strict=True))
    return Assignment(index, shares)


def _without_autocast(device: str) -> AbstractContextManager:
    if device == "meta":  # where operators are counted; it knows no autocast
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _widen(x: Tensor) -> Tensor:
    """``x`` in fp32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _has_kernel(queries: Tensor, keys: Tensor, values: Tensor) -> bool:
    """Whether the kernel is to run, and was made for the dtype and the sizes."""
    chosen = current_implementation()
    if chosen != "triton" and not (chosen == "auto" and queries.is_cuda):
        return False
    if not HAS_TRITON:
        return False
    from .recurrent_triton import supports  # only where it is used

    return supports(queries, keys, values)


def _shares(queries: Tensor, keys: Tensor, point_mask: Tensor | None) -> Tensor:
    """Shares of the (wide and scaled) queries in every point: ``(B, G, N, L)``."""
    shares = (_widen(keys) @ queries.transpose(-2, -1)).softmax(dim=-1)
    return shares if point_mask is None else shares * point_mask.unsqueeze(-1)


def _tile_size(queries: Tensor, keys: Tensor) -> int:
    """Points per tile."""
    cells = max(queries[..., 0].numel(), 1)  # B * G * L
    row = cells * max(queries.element_size(), 4)
    return min(max(tile_bytes(queries) // row, 1), max(keys.size(2), 1))


class _EMStep(torch.autograd.Function):
    """The step in tiles of points; the shares are computed again for the gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        point_mask: Tensor | None,
        scale: float,
        size: int,
        fused: bool,
    ) -> tuple[Tensor, Tensor]:
        if fused:
            from .recurrent_triton import em_sums

            total, mass = em_sums(queries, keys, values, point_mask, scale)
        else:
            total, mass = _sums(queries, keys, values, point_mask, scale, size)
        mass = mass.clamp(min=MIN_MASS)
        return total / mass, mass

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]
    ) -> None:
        *tensors, ctx.scale, ctx.size, _ = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, point_mask, centers, mass = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: with the whole table
            inputs = queries, keys, values
            whole = _dense_step(*inputs, point_mask, ctx.scale)
            wanted = [x for x in inputs if x.requires_grad]
            grads = iter(torch.autograd.grad(whole, wanted, grad, create_graph=True))
            found = (next(grads) if x.requires_grad else None for x in inputs)
            return *found, None, None, None, None
        # centers = total / mass
        grad_total = grad / mass  # (B, G, L, E)
        grad_mass = -(grad_total * centers).sum(dim=-1, keepdim=True)
        grad_mass = torch.where(mass > MIN_MASS, grad_mass, 0).transpose(-2, -1)
        wide = _widen(queries) * ctx.scale
        grad_wide = torch.zeros_like(wide)
        grad_keys, grad_values = [], []
        for key, value, mask in _tiles(ctx.size, keys, values, point_mask):
            shares = _shares(wide, key, None)
            grad_shares = _widen(value) @ grad_total.transpose(-2, -1) + grad_mass
            given = shares
            if mask is not None:
                grad_shares = grad_shares * mask.unsqueeze(-1)
                given = shares * mask.unsqueeze(-1)
            inner = (shares * grad_shares).sum(dim=-1, keepdim=True)
            grad_logits = shares * (grad_shares - inner)  # (B, G, n, L)
            grad_wide = grad_wide + grad_logits.transpose(-2, -1) @ _widen(key)
            grad_keys.append((grad_logits @ wide).to(keys.dtype))
            grad_values.append((given @ grad_total).to(values.dtype))
        grad_queries = (grad_wide * ctx.scale).to(queries.dtype)
        grads = torch.cat(grad_keys, dim=2), torch.cat(grad_values, dim=2)
        return grad_queries, *grads, None, None, None, None


def _dense_step(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    point_mask: Tensor | None,
    scale: float,
) -> Tensor:
    """The definition of the step: ``(B, G, L, E)``."""
    shares = _shares(_widen(queries) * scale, keys, point_mask)
    mass = shares.sum(dim=-2).unsqueeze(-1)  # (B, G, L, 1)
    return shares.transpose(-2, -1) @ _widen(values) / mass.clamp(min=MIN_MASS)


def _sums(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    point_mask: Tensor | None,
    scale: float,
    size: int,
) -> tuple[Tensor, Tensor]:
    """Total ``(B, G, L, E)`` and mass ``(B, G, L, 1)`` in tiles of ``size`` points."""
    queries = _widen(queries) * scale
    # Not in place: torch.compile would lose the gradient of the output.
    total = queries.new_zeros(*queries.shape[:3], values.size(-1))
    mass = queries.new_zeros(*queries.shape[:3], 1)
    for key, value, mask in _tiles(size, keys, values, point_mask):
        shares = _shares(queries, key, mask)
        total = total + shares.transpose(-2, -1) @ _widen(value)
        mass = mass + shares.sum(dim=-2).unsqueeze(-1)
    return total, mass


def _tiles(
    size: int, keys: Tensor, values: Tensor, point_mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    tiles = keys.split(size, dim=2), values.split(size, dim=2)
    if point_mask is None:
        return zip(*tiles, [None] * len(tiles[0]), strict=True)
    return zip(*tiles, point_mask.split(size, dim=2), strict=True)
