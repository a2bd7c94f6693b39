"""torch.export leaves the batch open in every family."""

import torch
from families import families, two_stages
from torch.export import Dim, export


@families
@torch.no_grad()
def test_one_program_serves_batches_of_any_size(family):
    torch.manual_seed(0)
    net = family(**two_stages(family)).eval()
    batch = Dim("batch", min=1)
    shapes = {"image": {0: batch}}
    program = export(net, (torch.randn(2, 3, 32, 32),), dynamic_shapes=shapes)
    for size in (1, 5, 40):
        images = torch.randn(size, 3, 32, 32)
        found = program.module()(images)
        for out, expected in zip(found, net(images), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
