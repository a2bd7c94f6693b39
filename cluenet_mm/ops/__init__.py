"""The clustering primitives: plain tensors in, plain tensors out.

Every tensor of points or centers is ``(B, G, N, D)``: ``B`` images (or regions
of images), ``G`` heads, ``N`` points (or ``M`` centers) of width ``D``. Only the
last dimension has to be contiguous, so heads may be strided views of a
``(B, N, G * D)`` token map and no copy is made to split them.

* :func:`assign`, :func:`nearest`: which center is nearest to each point.
* :func:`soft_aggregate`, :func:`hard_aggregate`: points to centers.
* :func:`em_step`, :func:`soft_assign`: steps of soft clustering.
* :func:`dispatch`, :func:`dispatch_project`: centers back to points.
* :func:`collect`: adding points up, the transpose of dispatching.
* :func:`linear`: a matrix product, fast on a CPU.
* :func:`implementation`: which code computes all of this.
* :class:`Folds`, :func:`grid_centers`, :func:`coordinates`: geometry of a map.
"""

from .aggregate import hard_aggregate, soft_aggregate
from .assign import Assignment, assign, nearest
from .dispatch import collect, dispatch, dispatch_project
from .heads import merge_heads, split_heads
from .implementation import IMPLEMENTATIONS, implementation
from .linear import linear
from .normalize import unit
from .recurrent import em_step, soft_assign
from .regions import Folds, coordinates, grid_centers

__all__ = [
    "IMPLEMENTATIONS",
    "Assignment",
    "Folds",
    "assign",
    "collect",
    "coordinates",
    "dispatch",
    "dispatch_project",
    "em_step",
    "grid_centers",
    "hard_aggregate",
    "implementation",
    "linear",
    "merge_heads",
    "nearest",
    "soft_aggregate",
    "soft_assign",
    "split_heads",
    "unit",
]
