import math

import goldens
import pytest
import torch

from cluenet_mm.backbones import CLUENet
from cluenet_mm.conversion import convert_state_dict
from cluenet_mm.layers import DepthwiseConv, PointwiseConv

CASES = ["cluenet_patch3_poolnorm", "cluenet_patch4_rect"]
PARAMETERS = {  # with a classifier for 100 classes
    "micro_cifar": 3_016_788,
    "micro": 3_017_908,
    "tiny": 5_680_430,
    "small": 15_048_840,
    "base": 30_198_452,
}


def golden_stages(case, impl, dtype=torch.float32):
    """Outputs of the four stages in front of any norm, and the logits."""
    config, official, images, expected = goldens.load(case)
    weights, meta = convert_state_dict(official, "cluenet")
    grids = list(zip(config["cluster_h"], config["cluster_w"], strict=True))
    model = CLUENet(meta["arch"], grids, min_temperature=config["min_alpha"], impl=impl)
    prefix = "backbone."
    model.load_state_dict(
        {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )
    model.to(dtype)
    outputs = {}
    for i, stage in enumerate(model.stages):
        stage[-1].register_forward_hook(
            lambda _, __, out, i=i: outputs.update(
                {f"stage{i}": out[0].permute(0, 3, 1, 2)}
            )
        )
    with torch.no_grad():
        pooled = model(images.to(dtype))[0].mean((2, 3))
    head = {k: weights[f"head.fc.{k}"].to(dtype) for k in ("weight", "bias")}
    outputs["logits"] = torch.nn.functional.linear(pooled, **head)
    return outputs, expected


@pytest.mark.parametrize("impl", ["naive", "chunked"])
@pytest.mark.parametrize("case", CASES)
def test_every_stage_equals_the_release(case, impl):
    outputs, expected = golden_stages(case, impl)
    errors = {k: goldens.relative_error(outputs[k], expected[k]) for k in expected}
    print(case, impl, {k: f"{v:.1e}" for k, v in errors.items()})
    assert max(errors.values()) < 1e-4


@pytest.mark.parametrize("arch", PARAMETERS)
def test_parameter_counts_are_the_paper_s(arch):
    with torch.device("meta"):
        model = CLUENet(arch)
    dims = CLUENet.arch_settings[arch]["embed_dims"][-1]
    count = sum(p.numel() for p in model.parameters()) + 100 * (dims + 1)
    assert count == PARAMETERS[arch]


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
        mixer.sim_alpha.fill_(-0.7)
        mixer.sim_beta.fill_(0.2)
        keys = torch.nn.functional.normalize(torch.randn(2, 4, 50, 24), dim=-1)
        centers = torch.randn(2, 4, 9, 24)
        assignment = mixer._assign(keys, centers)
        queries = mixer._split(mixer.query(centers.transpose(1, 2).flatten(2)))
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
    mixer = model.stages[1][0].mixer
    assert mixer.attn_alpha.exp().item() == pytest.approx(2.13)
    assert (mixer.sim_alpha.item(), mixer.sim_beta.item()) == (1.0, 0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_cuda_agrees_with_the_cpu(dtype):
    torch.manual_seed(0)
    model = CLUENet("micro").eval()
    model.init_weights()
    image = torch.randn(2, 3, 97, 130)
    with torch.no_grad():
        expected = model(image)[0]
        model.cuda()
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            out = model(image.cuda())[0].float().cpu()
    similarity = torch.cosine_similarity(out.flatten(1), expected.flatten(1))
    assert similarity.min() > (0.9999 if dtype is None else 0.98)
