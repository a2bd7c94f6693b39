"""Every family computes what its release computes."""

import goldens
import pytest
import torch

from cluenet_mm.backbones import FEC, CLUENet, ClusterFormer, ContextCluster
from cluenet_mm.conversion import convert_state_dict

CASES = {
    "cluenet_patch3_poolnorm": "cluenet",
    "cluenet_patch4_rect": "cluenet",
    "coc_fold": "coc",
    "fec_nofold": "fec",
    "fec_fold2": "fec",
}
PARAMETERS = {  # with a classifier for this many classes
    (CLUENet, "micro_cifar", 100): 3_016_788,
    (CLUENet, "micro", 100): 3_017_908,
    (CLUENet, "tiny", 100): 5_680_430,
    (CLUENet, "small", 100): 15_048_840,
    (CLUENet, "base", 100): 30_198_452,
    (ContextCluster, "mini_cifar", 100): 2_722_068,
    (ContextCluster, "tiny", 1000): 5_570_584,
    (ContextCluster, "small", 1000): 14_657_024,
    (ContextCluster, "medium", 1000): 29_290_520,
    (FEC, "small", 1000): 5_727_528,
    (FEC, "base", 1000): 15_086_848,
    (FEC, "large", 1000): 29_720_344,
    (ClusterFormer, "mini_cifar", 0): 2_905_248,
    (ClusterFormer, "tiny", 0): 29_457_792,
    (ClusterFormer, "small", 0): 50_779_008,
}


def build(family, config, arch):
    """Our backbone of a case's configuration."""

    def grids(name):
        return list(zip(config[f"{name}_h"], config[f"{name}_w"], strict=True))

    if family == "cluenet":
        floor = config["min_alpha"]
        return CLUENet(arch, grids("cluster"), min_temperature=floor)
    backbone = {"coc": ContextCluster, "fec": FEC}[family]
    return backbone(arch, grids("proposal"), grids("fold"))


def golden_stages(case, device="cpu"):
    """Outputs of the four stages in front of any norm, and the logits."""
    config, official, images, expected = goldens.load(case)
    arch = goldens.arch(config)
    weights, _ = convert_state_dict(official, CASES[case], arch)
    model = build(CASES[case], config, arch)
    prefix = "backbone."
    model.load_state_dict(
        {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )
    model.to(device)
    outputs = {}
    for i, stage in enumerate(model.stages):
        stage[-1].register_forward_hook(
            lambda _, __, out, i=i: outputs.update(
                {f"stage{i}": out[0].permute(0, 3, 1, 2)}
            )
        )
    with torch.no_grad():
        pooled = model(images.to(device))[0].mean((2, 3))
    head = {k: weights[f"head.fc.{k}"].to(device) for k in ("weight", "bias")}
    outputs["logits"] = torch.nn.functional.linear(pooled, **head)
    return outputs, expected


@pytest.mark.parametrize("impl", ["naive", "tiled"], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_every_stage_equals_the_release(case, impl):
    outputs, expected = golden_stages(case)
    errors = {k: goldens.relative_error(outputs[k], expected[k]) for k in expected}
    print(case, impl, {k: f"{v:.1e}" for k, v in errors.items()})
    assert max(errors.values()) < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("impl", ["naive", "tiled", "triton"], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_every_stage_equals_the_release_on_a_gpu(case, impl):
    outputs, expected = golden_stages(case, "cuda")
    for name, value in expected.items():
        assert goldens.relative_error(outputs[name].cpu(), value) < 1e-4, name


@pytest.mark.parametrize(("family", "arch", "num_classes"), PARAMETERS)
def test_parameter_counts_are_the_published_ones(family, arch, num_classes):
    with torch.device("meta"):
        model = family(arch)
    dims = family.arch_settings[arch]["embed_dims"][-1]
    count = sum(p.numel() for p in model.parameters()) + num_classes * (dims + 1)
    assert count == PARAMETERS[family, arch, num_classes]
