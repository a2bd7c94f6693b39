"""A small network of every family, with every optional part of its blocks."""

import pytest

from cluenet_mm.backbones import FEC, CLUENet, ClusterFormer, ContextCluster

ARCH = {
    "depths": (1, 2, 1, 1),
    "embed_dims": (8, 12, 16, 20),
    "mlp_ratios": (2, 2, 2, 2),
    "num_heads": (1, 2, 2, 4),
    "head_dims": 4,
    "patch": (4, 4, 0),
}
SMALL = {
    CLUENet: {"arch": {**ARCH, "pool_norm": True}, "cluster_grids": (3, 3, 2, 2)},
    ContextCluster: {
        "arch": ARCH,
        "cluster_grids": (2, 2, 3, 2),
        "fold_grids": (4, (2, 3), 2, 1),
        "layer_scale_init": 0.5,
    },
    FEC: {
        "arch": ARCH,
        "cluster_grids": (3, 3, 2, 2),
        "fold_grids": (3, (2, 3), 2, 1),
        "layer_scale_init": 0.5,
    },
    ClusterFormer: {
        "arch": {k: v for k, v in ARCH.items() if k != "head_dims"},
        "cluster_grids": (3, 3, (2, 3), 2),
        "fold_grids": (3, (2, 3), 2, 1),
    },
}
families = pytest.mark.parametrize("family", SMALL, ids=lambda f: f.__name__)


def two_stages(family: type) -> dict:
    """Options for its first two stages only, for slow tests."""
    arch = dict(SMALL[family]["arch"])
    for name in ("depths", "embed_dims", "mlp_ratios", "num_heads"):
        arch[name] = arch[name][:2]
    options = {**SMALL[family], "arch": arch, "out_indices": 1}
    for name in ("cluster_grids", "fold_grids"):
        if name in options:
            options[name] = options[name][:2]
    return options
