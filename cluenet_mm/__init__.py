"""CLUENet, FEC, Context Cluster and ClusterFormer for OpenMMLab.

Importing the package checks the versions of MMEngine and MMCV and imports neither;
MMEngine itself imports ``cluenet_mm.registry`` when a config names the scope.
"""

from .environment import check_frameworks
from .package_data import config_names, config_path, tool_path
from .version import __version__

__all__ = ["__version__", "config_names", "config_path", "tool_path"]

check_frameworks()
