"""Which implementation of the primitives runs, as a context."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

IMPLEMENTATIONS = ("auto", "naive", "tiled", "triton")
_current = "auto"


@contextmanager
def implementation(name: str) -> Iterator[None]:
    """Choose the implementation inside a ``with`` block, for the whole process.

    ``"naive"`` computes the definitions, with tables of points by centers; ``"tiled"``
    makes such tables piece by piece on any device; ``"triton"`` runs the kernels for
    CUDA where there is one, else the tiles. ``"auto"``, the default, takes ``triton``
    for CUDA tensors of a dtype that it knows where it is installed and the table has
    more than one tile, else ``tiled``. The answers are the same.

    A backward pass that recomputes activations (``with_cp``) belongs into the block.

    Args:
        name: One of ``IMPLEMENTATIONS``.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> from cluenet_mm.ops import nearest
        >>> points = torch.randn(2, 1, 100, 16)
        >>> with implementation("naive"):
        ...     index = nearest(points, points[:, :, ::25])
    """
    global _current
    if name not in IMPLEMENTATIONS:
        raise ValueError(
            f"cannot use implementation {name!r}: choose from "
            f"{', '.join(IMPLEMENTATIONS)}"
        )
    before, _current = _current, name
    try:
        yield
    finally:
        _current = before


def current_implementation() -> str:
    """Name of the implementation that was asked for."""
    return _current


def is_exporting() -> bool:
    """Whether a graph is recorded that is to serve other sizes than those at hand.

    The sizes of tiles follow from those of the batch and would become part of it.
    """
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()


def is_recorded() -> bool:
    """Whether a graph is recorded or compiled, and not run operator by operator."""
    return torch.compiler.is_compiling() or is_exporting()
