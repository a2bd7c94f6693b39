import math

import pytest
import torch

from cluenet_mm.backbones import CLUENet
from cluenet_mm.layers import DepthwiseConv, PointwiseConv
from cluenet_mm.layers.gate import HeadLinear


def test_blocks_of_a_stage_share_one_assignment_without_a_table():
    model = CLUENet("tiny", cluster_grids=(5, 4, 3, 2))
    shared = []
    for stage in model.stages:
        for block in stage:
            block.register_forward_hook(lambda _, __, out: shared.append(out[1]))
    model(torch.randn(1, 3, 64, 96))
    first = 0
    for stage, depth in enumerate((3, 4, 5, 2)):
        points = (16 >> stage) * (24 >> stage)
        assignment = shared[first]
        assert assignment.index.shape == assignment.similarity.shape
        assert assignment.index.shape[2] == points
        assert all(shared[first + j] is assignment for j in range(depth))
        first += depth


def test_similarity_carries_gradient_from_later_blocks():
    model = CLUENet("tiny", out_indices=0)
    image = torch.randn(1, 3, 32, 32)
    first, *later = model.stages[0]
    for parameter in first.parameters():
        parameter.requires_grad_(True)
    # With the first block's own message cut off, its query still learns.
    torch.nn.init.zeros_(first.mixer.proj.weight)
    model(image)[0].square().sum().backward()
    assert first.mixer.query.weight.grad.abs().sum() > 0
    assert len(later) == 2


def test_a_negative_scale_prefers_the_smallest_cosine():
    torch.manual_seed(0)
    mixer = CLUENet("tiny").stages[0][0].mixer
    with torch.no_grad():
        mixer.assignment.sim_alpha.fill_(-0.7)
        mixer.assignment.sim_beta.fill_(0.2)
        keys = torch.nn.functional.normalize(torch.randn(2, 4, 50, 24), dim=-1)
        queries = torch.randn(2, 4, 9, 24)
        assignment = mixer.assignment(keys, queries)
        cosine = torch.cosine_similarity(keys[:, :, :, None], queries[:, :, None], -1)
        similarity = torch.sigmoid(0.2 - 0.7 * cosine)
    assert torch.equal(assignment.index, similarity.max(-1).indices)
    torch.testing.assert_close(assignment.similarity, similarity.max(-1).values)


def test_the_temperature_has_a_floor():
    model = CLUENet("tiny", out_indices=0, min_temperature=0.5).eval()
    image = torch.randn(1, 3, 32, 32)
    outputs = []
    for value in (math.log(0.5), -5.0):
        for block in model.stages[0]:
            torch.nn.init.constant_(block.mixer.attn_alpha, value)
        outputs.append(model(image)[0])
    torch.testing.assert_close(outputs[0], outputs[1])


def test_initial_weights_are_the_release_s():
    torch.manual_seed(0)
    model = CLUENet("small")
    model.init_weights()
    for module in model.modules():
        if isinstance(module, PointwiseConv):
            expected = math.sqrt(2 / module.out_features)
        elif isinstance(module, DepthwiseConv):
            expected = math.sqrt(2 / 9)
        elif isinstance(module, torch.nn.Conv2d):
            expected = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
        elif isinstance(module, torch.nn.Linear):
            expected = 0.02
        else:
            continue
        assert module.bias.abs().max() == 0
        spread = 4 / math.sqrt(2 * module.weight.numel())
        assert module.weight.std().item() == pytest.approx(expected, rel=spread + 0.02)
    for module in model.modules():
        if isinstance(module, HeadLinear):
            _, *fans = module.weight.shape  # kaiming_uniform_(a=sqrt(5)) in 3-D
            bound = 1 / math.sqrt(math.prod(fans))
            assert module.bias.abs().max() == 0
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(
                bound / math.sqrt(3), rel=4 / math.sqrt(module.weight.numel())
            )
    mixer = model.stages[1][0].mixer
    assert mixer.attn_alpha.exp().item() == pytest.approx(2.13)
    assert (mixer.assignment.sim_alpha.item(), mixer.assignment.sim_beta.item()) == (
        1.0,
        0.0,
    )
