"""A model whose clusters are known by hand."""

import pytest
import torch
from families import ARCH
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from cluenet_mm.backbones import ContextCluster


@pytest.fixture
def color_backbone():
    """Two stages whose points are the colors of their pixels, and cluster by color.

    Patches of 2 x 2 pixels are averaged, blocks change nothing, the reducer takes the
    upper left of 2 x 2 points, and each stage has a left and a right center. An image
    of two colors that meet right of the middle is split where the colors meet.
    """
    model = ContextCluster(
        {
            "depths": (1, 1),
            "embed_dims": (3, 3),
            "mlp_ratios": (1, 1),
            "num_heads": (1, 1),
            "head_dims": 3,
            "patch": (2, 2, 0),
        },
        cluster_grids=((1, 2), (1, 2)),
        fold_grids=1,
        layer_scale_init=0.0,
    ).eval()
    with torch.no_grad():
        projection = model.embed.projection
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
        reducer = model.reducers[0]
        nn.init.zeros_(reducer.weight)
        nn.init.zeros_(reducer.bias)
        for channel in range(3):
            projection.weight[channel, channel] = 0.25
            reducer.weight[channel, channel, 1, 1] = 1
        for stage in model.stages:
            stage[0].norm1 = nn.Identity()
            feature = stage[0].mixer.feature
            feature.weight.copy_(torch.eye(3))
            nn.init.zeros_(feature.bias)
    return model


@pytest.fixture
def two_colors():
    """Red on 12 columns, blue on 4, and a last row that no patch holds."""
    image = torch.zeros(1, 3, 9, 16)
    image[:, 0, :, :12] = 1
    image[:, 2, :, 12:] = 1
    return image


@pytest.fixture
def classifier():
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    return MODELS.build(
        {
            "type": "ImageClassifier",
            "data_preprocessor": {
                "mean": [10.0, 20.0, 30.0],
                "std": [50.0, 60.0, 70.0],
                "num_classes": 3,
            },
            "backbone": {
                "type": "cluenet_mm.CLUENet",
                "arch": {**ARCH, "pool_norm": True},
                "cluster_grids": (4, 3, 2, 2),
            },
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 20},
        }
    ).eval()
