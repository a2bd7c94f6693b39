"""What a config says."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import cluenet_mm
from cluenet_mm.backbones import FEC
from cluenet_mm.config import (
    default_work_dir,
    inner_datasets,
    metrics_of,
    num_classes,
    read_config,
    resolve_type,
    type_name,
    with_type_name,
)

CONFIG = "cluenet/cls_digits"


def test_names_and_classes_are_the_same_type():
    assert type_name("cluenet_mm.FEC") == type_name("FEC") == type_name(FEC) == "FEC"
    assert resolve_type({"type": "cluenet_mm.FEC"}, MODELS) is FEC
    assert resolve_type({"type": FEC}, MODELS) is FEC
    assert resolve_type({"type": "cluenet_mm.Nothing"}, MODELS) is None


def test_types_of_pure_python_configs(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "from cluenet_mm.backbones import FEC\n"
        "model = dict(backbone=dict(type=FEC), neck=dict(type='mmdet.FPN'))\n"
    )
    model = Config.fromfile(path, lazy_import=True).model
    assert type_name(model.backbone) == type_name(model["backbone"].type) == "FEC"
    assert type_name(model.neck) == "FPN"
    assert resolve_type(model.backbone, MODELS) is FEC


def test_classes_become_names_that_mean_them():
    init_default_scope("cluenet_mm")
    assert with_type_name({"type": FEC, "arch": "small"}, MODELS) == {
        "type": "FEC",
        "arch": "small",
    }
    init_default_scope("mmengine")
    part = with_type_name({"type": FEC}, MODELS)
    assert isinstance(part["type"], str)
    assert MODELS.get(part["type"]) is FEC
    assert with_type_name({"type": "FEC"}, MODELS) == {"type": "FEC"}


def test_data_sets_are_found_in_their_wrappers():
    first, second = {"type": "A", "pipeline": []}, {"type": "B"}
    wrapped = {
        "type": "Repeat",
        "pipeline": [],
        "dataset": {"type": "Concat", "datasets": [first, {"dataset": second}]},
    }
    found = inner_datasets(Config(wrapped))
    assert found == [first, second]
    found[0].pipeline = ["changed"]
    assert inner_datasets(first) == [first]
    cfg = Config(wrapped)
    inner_datasets(cfg)[1].type = "C"
    assert cfg.dataset.datasets[1].dataset.type == "C"


def test_classes_are_counted_in_configs_and_models():
    box = {"num_classes": 7}
    for model, count in (
        ({"head": box}, 7),
        ({"decode_head": box, "auxiliary_head": {"num_classes": 8}}, 7),
        ({"roi_head": {"bbox_head": box, "mask_head": {"num_classes": 9}}}, 7),
        ({"roi_head": {"bbox_head": [{"num_classes": 5}, box]}}, 7),
        ({"bbox_head": {"num_things": 5, "num_stuff": 2}}, 7),
        ({"backbone": box}, None),
    ):
        assert num_classes(model) == count
    model = nn.Module()
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = nn.Module()
    assert num_classes(model) is None
    model.roi_head.bbox_head.num_classes = 3
    assert num_classes(model) == 3


def test_metrics_are_listed():
    one = {"type": "Accuracy"}
    for evaluator, expected in (
        (one, [one]),
        ([one, one], [one, one]),
        ({"type": "Evaluator", "metrics": one}, [one]),
        ({"type": "Evaluator", "metrics": [one]}, [one]),
        (None, []),
    ):
        assert metrics_of(Config({"test_evaluator": evaluator})) == expected


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
