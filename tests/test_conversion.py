import argparse
from pathlib import Path

import goldens
import processes
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from seeded_weights import seeded_state_dict

from cluenet_mm import config_path
from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.conversion import FAMILIES, convert_file, convert_state_dict
from cluenet_mm.inference import build_model

TOOL = "convert/official_weights.py"
CASE = "cluenet_patch3_poolnorm"
ARCH = goldens.arch(goldens.load(CASE)[0])
VARIANTS = [
    (family, arch)
    for family, reader in FAMILIES.items()
    for arch in reader.backbone.arch_settings
]


@pytest.fixture
def official():
    return goldens.load(CASE)[1]


def official_of(family, arch, num_classes=100):
    """Our state dict with random values, and what the release would save for it."""
    model = FAMILIES[family].backbone(arch)
    head = torch.nn.Linear(len(model.norm3.weight), num_classes)
    state = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    state |= {f"head.fc.{k}": v for k, v in head.state_dict().items()}
    name = FAMILIES[family].official_name
    return state, {name(k): v for k, v in state.items()}


def as_convolutions(official, *endings):
    """Give Linear layers the shape of the release's 1x1 convolutions."""
    for name, value in official.items():
        if name.endswith(endings):
            official[name] = value[..., None, None]
    return official


def run(*args):
    return processes.run(TOOL, *args)


@pytest.mark.parametrize(("family", "arch"), VARIANTS)
def test_a_seeded_checkpoint_of_every_variant(family, arch, tmp_path):
    # What the release would save, with the reference's weights, through the file.
    with torch.device("meta"):
        _, names = official_of(family, arch, num_classes=3)
    shapes = {k: tuple(v.shape) for k, v in names.items()}
    official = {k: torch.as_tensor(v) for k, v in seeded_state_dict(shapes).items()}
    torch.save({"state_dict": official}, tmp_path / "released.pth")
    meta = convert_file(tmp_path / "released.pth", tmp_path / "ours.pth", family)
    assert meta["arch"] == arch
    cfg = {
        "type": "ImageClassifier",
        "backbone": {"type": f"cluenet_mm.{FAMILIES[family].backbone.__name__}"},
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": 3},
    }
    cfg["backbone"]["arch"] = arch
    cfg["head"]["in_channels"] = official["head.weight"].size(1)
    init_default_scope("mmpretrain")
    model = MODELS.build(cfg)
    loaded = torch.load(tmp_path / "ours.pth", weights_only=True)
    model.load_state_dict(loaded["state_dict"], strict=True)
    name = FAMILIES[family].official_name
    for key, value in model.state_dict().items():
        assert torch.equal(value.flatten(), official[name(key)].flatten()), key


@pytest.mark.parametrize("generation", ["first", "second"])
def test_both_generations_of_context_cluster(generation, tmp_path):
    torch.manual_seed(0)
    state, official = official_of("coc", "mini_cifar")
    as_convolutions(official, ".f.weight", ".v.weight", "token_mixer.proj.weight")
    if generation == "first":
        as_convolutions(official, ".fc1.weight", ".fc2.weight")
        official["fea_pos"] = torch.rand(224, 224, 2)
    torch.save({"state_dict": official}, tmp_path / "released.pth")
    result = run(tmp_path / "released.pth", tmp_path / "ours.pth", "--arch", "coc")
    assert result.returncode == 0, result.stderr
    divisor = "members" if generation == "first" else "similarity"
    assert f"model.backbone.divisor={divisor!r}" in result.stdout

    loaded = torch.load(tmp_path / "ours.pth", weights_only=True)
    assert loaded["state_dict"].keys() == state.keys()
    assert all(torch.equal(loaded["state_dict"][k], state[k]) for k in state)
    cfg = Config.fromfile(config_path("coc/cls_cifar100.py"))
    outputs = {}
    for option in ("similarity", "members"):
        cfg.model.backbone.divisor = option
        if option == divisor:
            model = build_model(cfg, str(tmp_path / "ours.pth"))
            outputs[option] = model(torch.ones(1, 3, 32, 32))
        else:
            with pytest.raises(CheckpointError, match=f"divisor={divisor!r}"):
                build_model(cfg, str(tmp_path / "ours.pth"))
    assert outputs.keys() == {divisor}


def test_backbone_only_is_what_pretrained_wants(tmp_path):
    state, official = official_of("fec", "mini_cifar")
    torch.save(official, tmp_path / "released.pth")
    target = tmp_path / "backbone.pth"
    result = run(tmp_path / "released.pth", target, "--arch", "fec", "--backbone-only")
    assert result.returncode == 0, result.stderr
    parameters = sum(v.numel() for k, v in state.items() if "head" not in k)
    assert f"fec mini_cifar, {parameters:,} parameters" in result.stdout
    loaded = torch.load(target, weights_only=True)["state_dict"]
    assert all(name.startswith("backbone.") for name in loaded)
    init_cfg = {
        "type": "Pretrained",
        "checkpoint": str(target),
        "prefix": "backbone.",
    }
    model = FAMILIES["fec"].backbone(
        "mini_cifar", out_indices=(0, 1, 2, 3), init_cfg=init_cfg
    )
    model.init_weights()
    for name, value in model.state_dict().items():
        if not name.startswith("norm") or name.startswith("norm3"):
            assert torch.equal(value, state[f"backbone.{name}"]), name


def test_a_size_that_is_no_variant_comes_from_a_config(tmp_path):
    """No shape tells the heads of Context Cluster from their width."""
    config, official, _, _ = goldens.load("coc_fold")
    torch.save(official, tmp_path / "released.pth")
    args = (tmp_path / "released.pth", tmp_path / "ours.pth", "--arch", "coc")
    result = run(*args)
    assert result.returncode == 1
    start = f"error: {args[0]}: the checkpoint does not fit arch "
    assert result.stderr.startswith(start)
    assert "give --config for weights of another size" in result.stderr

    arch = goldens.arch(config)
    cfg = tmp_path / "config.py"
    for heads, message in ((arch["num_heads"], ""), ((2, 2, 4, 5), "has another size")):
        backbone = {"arch": arch | {"num_heads": heads}}
        cfg.write_text(f"model = dict(backbone={backbone})")
        result = run(*args, "--config", cfg)
        assert message in result.stderr
        assert bool(result.returncode) is bool(message)
    meta = torch.load(tmp_path / "ours.pth", weights_only=True)["meta"]
    assert (meta["arch"]["num_heads"], meta["arch"]["head_dims"]) == ((2, 2, 4, 4), 8)


@pytest.mark.parametrize(
    ("case", "family"), [("coc_fold", "fec"), ("fec_fold2", "coc")]
)
def test_a_checkpoint_of_another_family_is_refused(case, family):
    config, official, _, _ = goldens.load(case)
    for arch in (goldens.arch(config), None):
        with pytest.raises(CheckpointError, match="family that --arch names"):
            convert_state_dict(official, family, arch)


def test_a_released_file_loads_strictly_into_our_classifier(tmp_path):
    torch.manual_seed(0)
    state, official = official_of("cluenet", "micro_cifar")
    as_convolutions(official, "k.weight", "v.weight", "conv_f.weight")
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
    bare, _ = convert_state_dict(official, "cluenet", ARCH)
    torch.save({f"module.{k}": v for k, v in official.items()}, tmp_path / "dp.pth")
    convert_file(tmp_path / "dp.pth", tmp_path / "out.pth", "cluenet", ARCH)
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
        convert_state_dict(official, "cluenet", ARCH)


@pytest.mark.parametrize("name", ["network.7.norm.weight", "extra", "head2.weight"])
def test_a_key_that_matches_nothing_is_named(official, name):
    official[name] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        convert_state_dict(official, "cluenet", ARCH)


def test_another_size_is_named(official):
    official["norm.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"norm\.bias \(3,\) for \(40,\)"):
        convert_state_dict(official, "cluenet", ARCH)


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
        convert_file(tmp_path / "incomplete.pth", tmp_path / "out.pth", "cluenet", ARCH)
    assert (tmp_path / "out.pth").read_text() == "old"


def test_a_checkpoint_without_weights_is_named(tmp_path):
    for content in ({"epoch": 3}, {1: torch.ones(1)}):
        torch.save(content, tmp_path / "log.pth")
        with pytest.raises(CheckpointError, match=r"log\.pth holds no state dict"):
            convert_file(tmp_path / "log.pth", tmp_path / "out.pth", "cluenet")
