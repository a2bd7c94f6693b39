"""Misspelled keys are told, and values that cannot be meant refused."""

import pytest
from mmengine.config import Config

from cluenet_mm import config_names, config_path
from cluenet_mm.config import read_config
from cluenet_mm.config.check import refuse_impossible, unknown_keys

CONFIG = "cluenet/cls_digits.py"


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train_dataloadr.batch_size", "train_dataloader.batch_size"),
        ("train_dataloader.batchsize", "train_dataloader.batch_size"),
        ("optim_wrapper.optimizer.lrr", "optim_wrapper.optimizer.lr"),
        ("optim_wrapper.optimzer.lr", "optim_wrapper.optimizer.lr"),
        ("load_form", "load_from"),
        ("batch_size", "train_dataloader.batch_size"),
        ("nosuch.deep.key", ""),
        # What a config need not name.
        ("model.backbone.drop_path_rate", None),
        ("train_dataloader.dataset.indices", None),
        ("train_dataloader.dataset.pipeline.0.type", None),
        ("auto_scale_lr.base_batch_size", None),
        ("optim_wrapper.clip_grad.max_norm", None),
        ("sync_bn", None),
        ("env_cfg.cudnn_benchmark", None),
        ("randomness.seed", None),
        ("model.with_cp", None),
    ],
)
def test_a_misspelled_key_is_told(key, meant):
    lines = unknown_keys(Config.fromfile(config_path(CONFIG)), {key: 1})
    if meant is None:
        assert lines == []
    else:
        hint = f"; is {meant} meant?" if meant else ", and nothing reads it"
        assert lines == [f"the config has no {key}{hint}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_cfg.max_epochs", 0),
        ("train_cfg.max_epochs", -2),
        ("train_cfg.max_epochs", float("nan")),
        ("train_cfg.max_iters", "many"),
        ("data_preprocessor.std", (0, 0, 0)),
        ("data_preprocessor.std", [1.0, float("nan"), 1.0]),
        ("model.data_preprocessor.std", 0.0),
        ("model.backbone.with_cp", "maybe"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(key, value, capsys):
    with pytest.raises(ValueError, match=r"^cannot ") as error:
        read_config(CONFIG, {key: value})
    assert f"{key}={value!r}" in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_the_warning_stands_in_the_output(capsys):
    read_config(CONFIG, {"train_cfg.max_epoch": 3})
    expected = "the config has no train_cfg.max_epoch; is train_cfg.max_epochs meant?"
    assert capsys.readouterr().err == f"Warning: {expected}\n"


@pytest.mark.parametrize("name", config_names())
def test_our_configs_are_possible(name):
    named = Config.fromfile(config_path(name)).get("num_classes") == "auto"
    refuse_impossible(read_config(name, {"num_classes": 2} if named else {}))
