"""What the command lines of the tools share."""

import argparse
import runpy
import sys

import pytest
import toy
from mmengine.config import Config

import cluenet_mm
from cluenet_mm.engine.cli import (
    build_runner,
    default_work_dir,
    device,
    read_config,
)

CONFIG = "cluenet/cls_digits"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("open.py", "model = dict(\n", r"SyntaxError: .* was never closed \(line 1\)"),
        ("name.py", "a = 1\nb = foo\n", r"NameError: .*'foo'.*name\.py, line 2\)"),
        ("child.py", "_base_ = 'name.py'\n", r"'foo'.*name\.py, line 2\)"),
        ("lost.py", "_base_ = 'gone.py'\n", "FileNotFoundError: .*gone.py"),
        ("notes.txt", "model", "Only py/yml/yaml/json"),
        ("half.json", "{", "JSONDecodeError"),
        ("list.yml", "- 1", "AttributeError"),
        ("mine.py", "custom_imports = dict(imports=['no_mod'])\n", "import no_mod$"),
        (
            "lazy.py",
            "from mmengine.config import read_base\n"
            "with read_base():\n    from .gone import *\n",
            "ConfigParsingError: .*gone.py not found",
        ),
    ],
)
def test_a_config_that_cannot_be_read_is_named_with_its_line(
    tmp_path, name, text, message
):
    (tmp_path / "name.py").write_text("a = 1\nb = foo\n")
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=f"config {path} cannot be read: ") as error:
        read_config(str(path))
    assert error.match(message)
    assert "\n" not in str(error.value)


def test_options_are_applied_or_named():
    cfg = read_config(CONFIG, {"model.head.num_classes": 3})
    assert cfg.model.head.num_classes == 3
    with pytest.raises(ValueError, match=r"--cfg-options do not fit config .*type"):
        read_config(CONFIG, {"model.type.x": 3})


def test_every_config_of_ours_has_a_work_dir_of_its_own(tmp_path):
    names = cluenet_mm.config_names()
    folders = {
        name: default_work_dir(Config({}, filename=cluenet_mm.config_path(name)))
        for name in names
    }
    assert folders[f"{CONFIG}.py"] == "work_dirs/cluenet/cls_digits"
    assert folders["fec/cls_digits.py"] == "work_dirs/fec/cls_digits"
    assert len(set(folders.values())) == len(names) > 20
    own = tmp_path / "cluenet" / "cls_digits.py"
    own.parent.mkdir()
    own.write_text("")
    assert default_work_dir(Config({}, filename=own)) == "work_dirs/cls_digits"


def test_device(monkeypatch):
    assert device("cpu") == "cpu"
    for name in ("foo", "cuda:99"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"no device '{name}'"):
            device(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.bogus": 1}, "the model cannot be built: TypeError: .*bogus"),
        ({"model.type": "Nothing"}, "the model cannot be built: KeyError: .*Nothing"),
        (
            {"train_dataloader.dataset.bogus": 1},
            "the data set of train_dataloader cannot be built: TypeError: .*bogus",
        ),
        (
            {"val_dataloader.dataset": {"type": "mmpretrain.CustomDataset"}},
            "the data set of val_dataloader cannot be built: ",
        ),
        (
            {"val_evaluator.bogus": 1},
            "val_evaluator cannot be built: TypeError: .*bogus",
        ),
        (
            {"optim_wrapper.optimizer.type": "Adamm"},
            "the optimizer .*Adamm.* cannot be built: TypeError: ",
        ),
        ({"train_cfg.bogus": 1}, "the runner cannot be built: TypeError: .*bogus"),
    ],
)
def test_a_part_that_cannot_be_built_is_named(tmp_path, options, message):
    cfg = read_config(str(toy.write_config(tmp_path)), options)
    cfg.work_dir = str(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: {message}") as end:
        build_runner(cfg, "train", "val")
    assert "\n" not in end.value.code


def test_broken_annotations_are_named_with_the_tool_that_says_more(tmp_path):
    pytest.importorskip("mmdet")
    (tmp_path / "broken.json").write_text('{"images": [')
    cfg = read_config("cluenet/mask_rcnn_digits")
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.num_workers = 0
    cfg.train_dataloader.dataset = {
        "type": "CocoDataset",
        "data_root": str(tmp_path),
        "ann_file": "broken.json",
    }
    with pytest.raises(SystemExit) as end:
        build_runner(cfg, "train")
    for words in (
        f"the data set of train_dataloader data_root='{tmp_path}', "
        "ann_file='broken.json' cannot be built: JSONDecodeError: ",
        "; tools/check_dataset.py cluenet/mask_rcnn_digits.py says more",
    ):
        assert words in end.value.code


@pytest.mark.parametrize(
    "words",
    [
        ("train.py", CONFIG, "--work-dir", "{}/x"),
        ("test.py", CONFIG, "x.pth", "--work-dir", "{}/x"),
        ("test.py", CONFIG, "x.pth", "--show-dir", "{}"),
        ("test.py", CONFIG, "x.pth", "--out", "{}/x.pkl"),
        ("test.py", CONFIG, "x.pth", "--out", "{}/x.json"),
        ("test.py", CONFIG, "x.pth", "--out", "{}"),
        ("check_dataset.py", CONFIG, "--json", "{}/x.json"),
        ("check_dataset.py", CONFIG, "--num-samples", "1", "--out-dir", "{}"),
        ("analysis/get_flops.py", CONFIG, "--json", "{}/x.json"),
        (
            *("analysis/cluster_quality.py", CONFIG, "x.pth"),
            *("--dataset", "digits", "--json", "{}/x.json"),
        ),
        ("infer.py", "images", CONFIG, "x.pth", "--out-dir", "{}"),
        ("analysis/benchmark.py", CONFIG, "--json", "{}/x.json"),
        ("visualize/clusters.py", "val", CONFIG, "x.pth", "--out-dir", "{}"),
        ("visualize/explore.py", "val", CONFIG, "x.pth", "--out", "{}/x.html"),
    ],
)
def test_tools_refuse_first_what_they_could_not_write(
    tmp_path, monkeypatch, capsys, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("kept")
    words = [word.format("afile") for word in words]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(toy.TOOLS / words[0]), run_name="__main__")
    message = end.value.code
    if message == 2:
        message = capsys.readouterr().err.splitlines()[-1]
    assert f"{words[-1]} cannot be written: afile is a file, no folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["afile"]
    assert (tmp_path / "afile").read_text() == "kept"
