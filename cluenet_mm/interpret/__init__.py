"""What a network clustered: traces of its assignments, and pictures of them."""

from .draw import cluster_panel
from .trace import Trace, find_backbone, trace

__all__ = ["Trace", "cluster_panel", "find_backbone", "trace"]
