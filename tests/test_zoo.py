"""Published weights, by every way to them."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader

import cluenet_mm
from cluenet_mm import config_path, weights
from cluenet_mm.checkpoint import (
    CheckpointError,
    checkpoint_file,
    load_checkpoint,
    save_checkpoint,
)
from cluenet_mm.inference import build_model
from cluenet_mm.inference.predictor import Predictor, fingerprint

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools" / "dev" / "publish_weights.py"
CONFIG = "cluenet/cls_digits.py"
ADDRESS = "cluenet_mm://digits"
META = {"epoch": 7, "iter": 70, "seed": 3}


def run_script(folder, checkpoint, *options):
    """Run the script in this process, with ``folder`` as that of the weights."""
    words = [str(SCRIPT), str(checkpoint), CONFIG, "digits", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "FOLDER", folder)
        patch.setattr(sys, "argv", words)
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The checkpoint of a run with a random network, and that network."""
    torch.manual_seed(1)
    model = build_model(Config.fromfile(config_path(CONFIG)))
    model.init_weights()
    rest = {"optimizer": {"param_groups": []}, "message_hub": {}}
    path = tmp_path_factory.mktemp("run") / "epoch_7.pth"
    save_checkpoint({"state_dict": model.state_dict(), "meta": META, **rest}, path)
    return path, model


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "table.json").write_text("{}")
    run_script(folder, run[0], "--dataset", "Digits", "--commit", "c0ffee")
    return folder


@pytest.fixture
def table(published, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", published)
    return published


@pytest.fixture
def photo(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    return tmp_path / "photo.png"


def test_the_file_says_where_its_weights_come_from(table, run):
    (entry,) = weights.published().values()
    path = table / entry.file
    assert sorted(table.iterdir()) == sorted([path, table / "table.json"])
    assert path.name == f"digits-{entry.sha256[:8]}.pth"
    assert path.stat().st_size == entry.size < 0.6 * run[0].stat().st_size
    stored = torch.load(path, weights_only=True)
    assert {v.dtype for v in stored["state_dict"].values()} == {torch.float16}
    origin = stored["meta"]["published"]
    assert 0 <= origin.pop("metrics")["accuracy/top1"] <= 100
    assert origin == {
        "name": "digits",
        "config": CONFIG,
        "trained_with": CONFIG,
        "commit": "c0ffee",
        "version": cluenet_mm.__version__,
        "dataset": "Digits",
        "epochs": 7,
        "iterations": 70,
        "seed": 3,
        "averaged": False,
    }
    assert stored["meta"]["dataset_meta"]["classes"] == list("0123456789")


def test_an_address_loads_in_fp32_wherever_a_checkpoint_does(table, run):
    state = run[1].state_dict()
    for loaded in (
        load_checkpoint(ADDRESS),
        load_checkpoint(checkpoint_file(ADDRESS)),
        CheckpointLoader.load_checkpoint(ADDRESS, "cpu"),
    ):
        for name, value in loaded["state_dict"].items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, state[name], rtol=1e-3, atol=1e-6)


def test_an_address_serves_as_a_start(table, run):
    start = {"type": "Pretrained", "checkpoint": ADDRESS, "prefix": "backbone."}
    cfg = Config.fromfile(config_path(CONFIG))
    backbone = cfg.model.backbone
    built = MODELS.build({**backbone, "init_cfg": start, "out_indices": (1, 3)})
    built.init_weights()
    wanted = run[1].backbone.state_dict()
    for name, value in built.state_dict().items():
        if not name.startswith("norm1"):
            torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-6)


def test_an_address_serves_where_a_model_runs(table, run, photo):
    cfg = Config.fromfile(config_path(CONFIG))
    expected = run[1].head.fc.weight
    for model in (build_model(cfg, ADDRESS), Predictor(cfg, ADDRESS, "cpu").model):
        torch.testing.assert_close(model.head.fc.weight, expected, rtol=1e-3, atol=1e-6)
    assert fingerprint(cfg, ADDRESS) == fingerprint(cfg, checkpoint_file(ADDRESS))


def test_from_a_photograph_to_classes_features_and_clusters(table, run, photo):
    net = cluenet_mm.load_model("digits")
    image = net.transform(photo)
    assert image.shape == (1, 3, 32, 32)
    assert not net.model.training
    ((first, probability), *_) = net.predict(image)[0]
    logits = run[1](image, mode="tensor")[0].softmax(0)
    assert first == net.classes[logits.argmax()] == str(int(logits.argmax()))
    assert probability == pytest.approx(logits.max().item(), abs=1e-3)
    both = torch.cat([image, net.transform(cv2.imread(str(photo))[..., ::-1])])
    assert torch.equal(both[0], both[1])
    assert [len(found) for found in net.predict(both, topk=3)] == [3, 3]
    features = net.features(both)
    assert [x.shape[:2] for x in features] == [
        (2, dim) for dim in net.config.model.backbone.arch.embed_dims
    ]
    normed = net.model.backbone.norm3(features[-1].permute(0, 2, 3, 1))
    (last,) = net.model.backbone(both)
    torch.testing.assert_close(normed.permute(0, 3, 1, 2), last)
    clusters = net.clusters(both)
    assert clusters.shape[0] == 2
    assert clusters.shape[2:] == (32, 32)
    assert clusters.max() < 4  # of the last stage's grid of 2 x 2
    assert net.clusters(image, stage=0).max() > 4


def test_a_config_needs_a_checkpoint(table, run):
    net = cluenet_mm.load_model(CONFIG, run[0])
    assert net.classes == ()
    assert net.predict(torch.zeros(1, 3, 32, 32))[0][0][0] in "0123456789"
    for name in (CONFIG, "no_such_network", net.config):
        with pytest.raises(ValueError, match=r"Give a checkpoint, or one of: digits\."):
            cluenet_mm.load_model(name)


def test_another_name_lists_those_that_exist(table):
    with pytest.raises(CheckpointError, match=r"Published are: digits\."):
        load_checkpoint("cluenet_mm://digit")


def test_a_file_of_the_package_that_changed_is_refused(table, tmp_path, monkeypatch):
    for path in table.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    path = checkpoint_file(ADDRESS)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"is damaged.* Install cluenet_mm again"):
        load_checkpoint(ADDRESS)
    path.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load_checkpoint(ADDRESS)


def test_a_file_may_lie_behind_a_link(run, published, tmp_path, monkeypatch):
    """It is published into the current folder, and fetched with its hash verified."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "table.json").write_text("{}")
    run_script(tmp_path / "table", run[0], "--link", "https://host/folder/")
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "table")
    entry = weights.published()["digits"]
    (file,) = tmp_path.glob("*.pth")
    assert entry.file == f"https://host/folder/{file.name}"
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    local = entry.__dict__ | {"file": file.as_uri()}
    (tmp_path / "table" / "table.json").write_text(json.dumps({"digits": local}))
    assert load_checkpoint(ADDRESS)["meta"]["published"]["name"] == "digits"
    local["sha256"] = "0" * 64
    (tmp_path / "table" / "table.json").write_text(json.dumps({"digits": local}))
    with pytest.raises(CheckpointError, match="its SHA-256 is"):
        load_checkpoint(ADDRESS)


def test_what_cannot_be_published_is_one_line(run, tmp_path, published):
    (tmp_path / "table.json").write_text("{}")
    loaded = load_checkpoint(run[0])
    state = loaded["state_dict"] | {"head.fc.bias": torch.full((10,), 1e6)}
    save_checkpoint(loaded | {"state_dict": state}, tmp_path / "large.pth")
    with pytest.raises(SystemExit, match=r"half precision: head\.fc\.bias is not"):
        run_script(tmp_path, tmp_path / "large.pth")
    publish = runpy.run_path(str(SCRIPT))["publish"]
    with pytest.raises(ValueError, match=r"takes 8,000,000\. Give --link"):
        publish({"w": torch.randn(3_000_000)}, [], {"name": "large", "config": CONFIG})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["large.pth", "table.json"]


def test_mmpretrain_knows_our_networks_by_name(table, tmp_path):
    import mmpretrain

    cluenet_mm.register_models()
    cluenet_mm.register_models()
    assert "cluenet-micro_cifar100" in mmpretrain.list_models("*cluenet*")
    model = mmpretrain.get_model("cluenet-micro_cifar100")
    assert sum(p.numel() for p in model.parameters()) == 3_016_788

    metafile = (ROOT / "configs/cluenet/metafile.yml").read_text()
    head = metafile[: metafile.index("  - Name: ", metafile.index("Models:"))]
    (tmp_path / "metafile.yml").write_text(
        f"{head}  - Name: cluenet-test_digits\n    In Collection: CLUENet\n"
        f"    Config: {config_path(CONFIG)}\n    Weights: {ADDRESS}\n"
    )
    (tmp_path / "index.yml").write_text("Import:\n  - metafile.yml\n")
    cluenet_mm.register_models(tmp_path / "index.yml")
    model = mmpretrain.get_model("cluenet-test_digits", pretrained=True)
    expected = load_checkpoint(ADDRESS)["state_dict"]["head.fc.weight"]
    assert torch.equal(model.head.fc.weight, expected)
    found = mmpretrain.ImageClassificationInferencer("cluenet-test_digits")
    assert found.classes == list("0123456789")


@pytest.mark.parametrize("name", weights.published() or ["none yet"])
def test_what_ships_is_small_whole_and_described(name):
    if name == "none yet":
        pytest.skip("nothing is published yet")
    entry = weights.published()[name]
    assert entry.size <= 8_000_000
    loaded = load_checkpoint(f"cluenet_mm://{name}")  # verifies the hash
    assert checkpoint_file(f"cluenet_mm://{name}").stat().st_size == entry.size
    origin = loaded["meta"]["published"]
    assert (origin["name"], origin["config"]) == (name, entry.config)
    assert {"commit", "dataset", "epochs", "seed", "metrics"} <= origin.keys()
    assert cluenet_mm.load_model(name).classes
