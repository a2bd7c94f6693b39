"""torch.export leaves the batch open in every family."""

import pytest
import torch
from torch.export import Dim, export

from cluenet_mm.backbones import FEC, CLUENet, ClusterFormer, ContextCluster


@pytest.mark.parametrize(
    "build",
    [
        lambda: CLUENet("micro_cifar", cluster_grids=4),
        lambda: FEC("mini_cifar"),
        lambda: ContextCluster("mini_cifar"),
        lambda: ClusterFormer("mini_cifar"),
    ],
    ids=["CLUENet", "FEC", "ContextCluster", "ClusterFormer"],
)
@torch.no_grad()
def test_one_program_serves_batches_of_any_size(build):
    torch.manual_seed(0)
    net = build().eval()
    batch = Dim("batch", min=1)
    shapes = {"image": {0: batch}}
    program = export(net, (torch.randn(2, 3, 32, 32),), dynamic_shapes=shapes)
    for size in (1, 5, 40):
        images = torch.randn(size, 3, 32, 32)
        found = program.module()(images)
        for out, expected in zip(found, net(images), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
