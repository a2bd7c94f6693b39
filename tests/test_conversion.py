import argparse
import subprocess
import sys
from pathlib import Path

import goldens
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from cluenet_mm import config_path
from cluenet_mm.backbones import CLUENet
from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.conversion import FAMILIES, convert_file, convert_state_dict

TOOL = Path(__file__).parents[1] / "tools" / "convert" / "official_weights.py"
CASE = "cluenet_patch3_poolnorm"


@pytest.fixture
def official():
    return goldens.load(CASE)[1]


def official_of(model, num_classes):
    """What the release would save for our model, with random values."""
    head = torch.nn.Linear(model.norm3.normalized_shape[0], num_classes)
    state = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    state |= {f"head.fc.{k}": v for k, v in head.state_dict().items()}
    name = FAMILIES["cluenet"].official_name
    return state, {name(k): v for k, v in state.items()}


def run(*args):
    return subprocess.run(
        [sys.executable, TOOL, *map(str, args)], capture_output=True, text=True
    )


@pytest.mark.parametrize("arch", CLUENet.arch_settings)
def test_every_variant_is_recognised(arch):
    with torch.device("meta"):
        state, official = official_of(CLUENet(arch), 100)
    official = {k: torch.empty(v.shape, device="meta") for k, v in official.items()}
    converted, meta = convert_state_dict(official, "cluenet")
    assert meta["arch"] == arch
    assert {k: v.shape for k, v in converted.items()} == {
        k: v.shape for k, v in state.items()
    }


def test_a_released_file_loads_strictly_into_our_classifier(tmp_path):
    torch.manual_seed(0)
    state, official = official_of(CLUENet("micro_cifar"), 100)
    for name, value in official.items():
        if name.endswith(("k.weight", "v.weight", "conv_f.weight")):
            official[name] = value[..., None, None]  # the release's 1x1 convolutions
    released = {
        "model_state_dict": official,
        "epoch": 104,
        "args": argparse.Namespace(lr=0.015, data=Path("cifar")),
    }
    torch.save(released, tmp_path / "released.pth")
    result = run(tmp_path / "released.pth", tmp_path / "ours.pth", "--arch", "cluenet")
    assert result.returncode == 0, result.stderr
    assert "micro_cifar, 100 classes, 3,016,788 parameters" in result.stdout

    ours = torch.load(tmp_path / "ours.pth", weights_only=True)
    assert ours["meta"]["family"] == "cluenet"
    cfg = Config.fromfile(config_path("cluenet/cls_cifar100.py"))
    init_default_scope("mmpretrain")
    model = MODELS.build(cfg.model)
    model.load_state_dict(ours["state_dict"], strict=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_bare_and_data_parallel_state_dicts(official, tmp_path):
    bare, _ = convert_state_dict(official, "cluenet")
    torch.save({f"module.{k}": v for k, v in official.items()}, tmp_path / "dp.pth")
    convert_file(tmp_path / "dp.pth", tmp_path / "out.pth", "cluenet")
    wrapped = torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"]
    assert wrapped.keys() == bare.keys()
    assert all(torch.equal(wrapped[k], bare[k]) for k in bare)


@pytest.mark.parametrize(
    "name",
    [
        "network.2.blocks.1.mlp.fc2.weight",
        "network.0.blocks.0.token_mixer.sim_beta",
        "network.3.conv_skip.bias",
        "patch_embed.proj.weight",
        "head.weight",
        "norm.bias",
    ],
)
def test_a_missing_key_is_named(official, name):
    del official[name]
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        convert_state_dict(official, "cluenet")


@pytest.mark.parametrize("name", ["network.7.norm.weight", "extra", "head2.weight"])
def test_a_key_that_matches_nothing_is_named(official, name):
    official[name] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        convert_state_dict(official, "cluenet")


def test_another_size_is_named(official):
    official["norm.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"norm\.bias \(3,\) for \(40,\)"):
        convert_state_dict(official, "cluenet")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04cut"])
def test_a_broken_file_is_one_line_and_leaves_nothing(tmp_path, content):
    (tmp_path / "broken.pth").write_bytes(content)
    target = tmp_path / "out.pth"
    result = run(tmp_path / "broken.pth", target, "--arch", "cluenet")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "broken.pth" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["broken.pth"]


def test_an_existing_target_survives_a_failure(tmp_path, official):
    del official["norm.bias"]
    torch.save(official, tmp_path / "incomplete.pth")
    (tmp_path / "out.pth").write_text("old")
    with pytest.raises(CheckpointError, match=r"norm\.bias"):
        convert_file(tmp_path / "incomplete.pth", tmp_path / "out.pth", "cluenet")
    assert (tmp_path / "out.pth").read_text() == "old"


def test_a_checkpoint_without_weights_is_named(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "log.pth")
    with pytest.raises(CheckpointError, match=r"log\.pth holds no state dict"):
        convert_file(tmp_path / "log.pth", tmp_path / "out.pth", "cluenet")
