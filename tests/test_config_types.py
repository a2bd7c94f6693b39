"""Types of configs are names or classes."""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from cluenet_mm.backbones import FEC
from cluenet_mm.config_types import named, registered_type, type_name


def test_names_and_classes_are_the_same_type():
    assert type_name("cluenet_mm.FEC") == type_name("FEC") == type_name(FEC) == "FEC"
    assert registered_type({"type": "cluenet_mm.FEC"}, MODELS) is FEC
    assert registered_type({"type": FEC}, MODELS) is FEC
    assert registered_type({"type": "cluenet_mm.Nothing"}, MODELS) is None


def test_types_of_pure_python_configs(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "from cluenet_mm.backbones import FEC\n"
        "model = dict(backbone=dict(type=FEC), neck=dict(type='mmdet.FPN'))\n"
    )
    model = Config.fromfile(path, lazy_import=True).model
    assert type_name(model.backbone) == type_name(model["backbone"].type) == "FEC"
    assert type_name(model.neck) == "FPN"
    assert registered_type(model.backbone, MODELS) is FEC


def test_classes_become_names_that_mean_them():
    init_default_scope("cluenet_mm")
    assert named({"type": FEC, "arch": "small"}, MODELS) == {
        "type": "FEC",
        "arch": "small",
    }
    init_default_scope("mmengine")
    part = named({"type": FEC}, MODELS)
    assert isinstance(part["type"], str)
    assert MODELS.get(part["type"]) is FEC
    assert named({"type": "FEC"}, MODELS) == {"type": "FEC"}
