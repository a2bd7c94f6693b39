"""Hooks around training."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, FUNCTIONS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from cluenet_mm.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from cluenet_mm.hooks import StrictLoadHook


@DATASETS.register_module()
class Noise(Dataset):
    """Samples are what the three generators give in the worker."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        draws = [random.random(), np.random.rand(), torch.rand(()).item()]
        return {"inputs": torch.tensor(draws, dtype=torch.float64)}


@MODELS.register_module()
class Recorder(BaseModel):
    """Keeps its inputs and what the three generators give beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.data, self.own = [], []

    def forward(self, inputs, mode="tensor"):
        self.data += [tuple(sample.tolist()) for sample in inputs]
        self.own.append((random.random(), np.random.rand(), torch.rand(()).item()))
        return {"loss": self.linear.weight.sum()}


def make_runner(folder: Path, name: str, hooks=(), resume=None, **loader) -> Runner:
    return Runner.from_cfg(
        {
            "model": {"type": "Recorder"},
            "work_dir": str(folder),
            "train_dataloader": {
                "batch_size": 2,
                "dataset": {"type": "Noise"},
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                **loader,
            },
            "train_cfg": {"by_epoch": True, "max_epochs": 2},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
            "custom_hooks": list(hooks),
            "randomness": {"seed": 5},
            "experiment_name": name,
            "load_from": resume,
            "resume": resume is not None,
        }
    )


SEED = {"type": "cluenet_mm.EpochSeedHook"}


def test_streams_differ_in_every_epoch_and_depend_on_nothing_else(tmp_path):
    runs = []
    for number in range(2):
        runner = make_runner(tmp_path, f"seeded{number}", [SEED], num_workers=2)
        # As if something else had drawn, say before an interruption.
        torch.rand(number), np.random.rand(number), [random.random()] * number
        runner.train()
        runs.append(runner.model)
    assert runs[0].data == runs[1].data
    assert runs[0].own == runs[1].own
    assert len(runs[0].data) == 8
    for draws in zip(*runs[0].data, strict=True):
        assert len(set(draws)) == 8
    for draws in zip(*runs[0].own, strict=True):
        assert len(set(draws)) == 4


@FUNCTIONS.register_module()
def seed_with_worker_id(worker_id: int) -> None:
    torch.manual_seed(worker_id)


def test_the_config_of_workers_is_respected(tmp_path):
    for name, options, expected in (
        ("own", {"worker_init_fn": {"type": "seed_with_worker_id"}}, False),
        ("default", {}, True),
    ):
        runner = make_runner(tmp_path, name, [SEED], num_workers=1, **options)
        runner.train()
        assert (runner.train_dataloader.worker_init_fn is None) is expected


def test_persistent_workers_are_warned_about(tmp_path):
    options = {"num_workers": 1, "persistent_workers": True}
    runner = make_runner(tmp_path, "persistent", [SEED], **options)
    runner.train()
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "persistent_workers=True: the random transforms" in log


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = Recorder().state_dict()
    path = tmp_path / "weights.pth"
    runner = make_runner(tmp_path, "strict", [{"type": "cluenet_mm.StrictLoadHook"}])
    save_checkpoint({"state_dict": state}, path)
    runner.load_checkpoint(str(path))

    weight = state.pop("linear.weight")
    state["old_head.weight"] = weight
    state["linear.bias"] = torch.zeros(3)
    save_checkpoint({"state_dict": state}, path)
    with pytest.raises(CheckpointError) as seen:
        runner.load_checkpoint(str(path))
    assert "1 missing: linear.weight" in str(seen.value)
    assert "1 unexpected: old_head.weight" in str(seen.value)
    assert "1 of another shape: linear.bias (3,), not (1,)" in str(seen.value)

    hook = StrictLoadHook(allow_missing=("linear.",), allow_unexpected=("old_head.",))
    state["linear.bias"] = torch.zeros(1)
    hook.after_load_checkpoint(runner, {"state_dict": state})


def test_weights_to_start_from_may_fit_in_part(tmp_path):
    start = {"type": "cluenet_mm.StrictLoadHook", "partial": True}
    runner = make_runner(tmp_path, "partial", [start])
    path = tmp_path / "weights.pth"
    bias = torch.full((1,), 7.0)
    save_checkpoint({"linear.bias": bias, "old_head.weight": bias}, path)
    runner.load_checkpoint(str(path))
    assert runner.model.linear.bias.item() == 7

    for none in ({"linear.bias": torch.zeros(2)}, {"x.linear.bias": bias}):
        save_checkpoint(none, path)
        with pytest.raises(
            CheckpointError, match=r"1 missing: linear\.weight|2 missing"
        ):
            runner.load_checkpoint(str(path))
    options = {"meta": {"options": {"divisor": "members"}}}
    save_checkpoint({"state_dict": {"linear.bias": bias}, **options}, path)
    with pytest.raises(CheckpointError, match="need divisor='members'"):
        runner.load_checkpoint(str(path))


def test_what_a_run_goes_on_from_fits_wholly(tmp_path):
    """Whatever may be missing at a start, and with its own optimizer."""
    start = {"type": "cluenet_mm.StrictLoadHook", "partial": True}
    runner = make_runner(tmp_path, "whole", [start | {"allow_missing": ["linear."]}])
    runner.train()
    path = tmp_path / "epoch_2.pth"
    saved = load_checkpoint(path)
    faults = {
        "1 missing: linear.bias": {"state_dict": {"linear.weight": torch.ones(1, 1)}},
        "groups of 2, 2 parameters, that of the config 2": {
            "optimizer": {"state": {}, "param_groups": [{"params": [0, 1]}] * 2}
        },
        "message_hub is 3, not a dictionary": {"message_hub": 3},
    }
    for i, (message, parts) in enumerate(faults.items()):
        save_checkpoint(saved | parts, path)
        again = make_runner(tmp_path, f"again{i}", [start], resume=str(path))
        with pytest.raises(CheckpointError) as seen:
            again.train()
        assert message in str(seen.value)
        assert str(path) in str(seen.value)
