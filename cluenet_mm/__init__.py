"""CLUENet, FEC, Context Cluster and ClusterFormer for OpenMMLab.

Importing the package checks the versions of MMEngine and MMCV and imports neither;
MMEngine itself imports ``cluenet_mm.registry`` when a config names the scope, and
``load_model`` and ``register_models`` import what they need when they are asked for.
"""

from typing import Any

from .environment import check_frameworks
from .package_data import config_names, config_path, tool_path
from .version import __version__

__all__ = [
    "__version__",
    "config_names",
    "config_path",
    "load_model",
    "register_models",
    "tool_path",
]

check_frameworks()


def __getattr__(name: str) -> Any:
    if name in ("load_model", "register_models"):
        from . import zoo

        return getattr(zoo, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
