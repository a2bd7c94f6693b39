"""What a checkpoint holds, and whether it fits."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from cluenet_mm.checkpoint import (
    CheckpointError,
    check_resume,
    check_weights,
    dataset_meta,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    register_safe_loader,
    save_checkpoint,
)


class Points(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict:
        return {"inputs": torch.full((2,), float(index))}


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs, mode="tensor"):
        return {"loss": self.linear(torch.stack(inputs)).square().mean()}


def make_runner(folder: Path, name: str, epochs: int, **options: object) -> Runner:
    step = {"type": "LinearLR", "start_factor": 0.5, "end": 4, "by_epoch": False}
    decay = {"type": "MultiStepLR", "milestones": [1, 3]}
    return Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader={
            "batch_size": 2,
            "dataset": Points(),
            "sampler": {"type": "DefaultSampler", "shuffle": True},
        },
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.1}},
        param_scheduler=[step, decay],
        experiment_name=name,
        **options,
    )


def test_a_runner_resumes_its_own_checkpoint(tmp_path):
    register_safe_loader()
    register_safe_loader()
    first = make_runner(tmp_path, "first", epochs=2)
    first.train()
    second = make_runner(tmp_path, "second", epochs=3, resume=True)
    second.train()
    assert (second.epoch, second.iter) == (3, 9)
    history = MessageHub.get_instance(second.experiment_name).get_scalar("train/loss")
    assert len(history.data[0]) == 9
    np.testing.assert_array_equal(
        history.data[0][:6], first.message_hub.get_scalar("train/loss").data[0]
    )


def test_a_backbone_in_a_foreign_script_reads_checkpoints_of_a_run(tmp_path):
    options = {"type": "cluenet_mm.ContextCluster", "arch": "mini_cifar"}
    backbone = MODELS.build(options)
    state = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    history = HistoryBuffer([1.0], [1])  # what MMEngine's own loader stumbles over
    torch.save({"state_dict": state, "message_hub": history}, tmp_path / "run.pth")
    start = {"type": "Pretrained", "checkpoint": "run.pth", "prefix": "backbone."}
    script = (
        "from mmengine.registry import MODELS\n"
        f"model = MODELS.build({options | {'init_cfg': start}})\n"
        "model.init_weights()\n"
        "print(model.embed.projection.weight.sum().item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = backbone.embed.projection.weight.sum().item()
    assert float(done.stdout.split()[-1]) == pytest.approx(expected)


# --- parts of other types ---------------------------------------------------------

STATE = {"linear.weight": torch.ones(1, 2), "linear.bias": torch.ones(1)}
META = {"epoch": 1, "iter": 3, "seed": 0}
OPTIMIZER = {"state": {}, "param_groups": [{"params": [0, 1]}]}
RUN = {"state_dict": STATE, "meta": META, "message_hub": {}, "optimizer": OPTIMIZER}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"state_dict": [1]}, "state_dict is a list, not a dictionary"),
        ({"state_dict": None}, "state_dict is None, not a dictionary"),
        ({"state_dict": {3: torch.ones(1)}}, "a name in state_dict is 3, not a string"),
        ({"meta": ["epoch"]}, "meta is a list, not a dictionary"),
        ({"meta": None}, "meta is None, not a dictionary"),
        ({"meta": {"options": ["a"]}}, "meta.options is a list"),
        ({"meta": {"dataset_meta": 4}}, "meta.dataset_meta is 4"),
        (
            {"meta": {"dataset_meta": {"classes": 7}}},
            "classes is 7, not a list of names",
        ),
        ({"meta": {"CLASSES": "cat"}}, "meta.CLASSES is 'cat', not a list of names"),
    ],
)
def test_a_part_of_another_type_is_named_at_loading(tmp_path, parts, message):
    save_checkpoint(RUN | parts, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as seen:
        load_checkpoint(tmp_path / "odd.pth")
    assert str(seen.value).startswith(f"cannot use checkpoint {tmp_path / 'odd.pth'}: ")
    assert message in str(seen.value)
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"meta": {"iter": 3}}, "meta.epoch is None, not a number from 0"),
        ({"meta": META | {"epoch": "one"}}, "meta.epoch is 'one'"),
        ({"meta": META | {"epoch": -5}}, "meta.epoch is -5"),
        ({"meta": META | {"iter": 1.5}}, "meta.iter is 1.5"),
        ({"meta": META | {"seed": "s"}}, "meta.seed is 's'"),
        ({"message_hub": 3}, "message_hub is 3, not a dictionary"),
        ({"optimizer": {}}, "optimizer is a dict, not the state of an optimizer"),
        ({"optimizer": [1]}, "optimizer is a list, not a dictionary"),
    ],
)
def test_what_no_run_can_go_on_from_is_named(tmp_path, parts, message):
    save_checkpoint(RUN | parts, tmp_path / "odd.pth")
    loaded = load_checkpoint(tmp_path / "odd.pth")  # its weights may be whole
    with pytest.raises(CheckpointError, match=r"odd\.pth: ") as seen:
        check_resume(loaded, tmp_path / "odd.pth")
    assert message in str(seen.value)
    check_resume(RUN, "run.pth")
    several = {"head": OPTIMIZER, "body": OPTIMIZER}
    check_resume(RUN | {"optimizer": several}, "run.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth holds weights without"):
        check_resume({"state_dict": STATE}, "w.pth")


def test_names_of_classes():
    names = ("cat", "dog")
    for meta in (
        {"dataset_meta": {"classes": names, "task_name": "x"}},
        {"dataset_meta": {"CLASSES": names}},
        {"CLASSES": names},
        {"dataset_meta": None, "CLASSES": names},
    ):
        assert dataset_meta({"meta": meta}) == {"classes": names}
    assert dataset_meta({}) == {}


# --- do they fit? -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([float("nan")]), r"is not finite \(1 of 1 numbers\)"),
        (torch.tensor([float("-inf")]), "is not finite"),
        (torch.ones(1, dtype=torch.complex64), "is torch.complex64, not torch.float32"),
        (torch.ones(1, dtype=torch.int32), "is torch.int32, not torch.float32"),
        (torch.ones(1).to_sparse(), "is no dense tensor"),
    ],
)
def test_numbers_that_no_network_can_run_with_are_refused(value, message):
    model = Line()
    with pytest.raises(CheckpointError, match=f"w.pth: linear.bias {message}"):
        load_weights(model, {"state_dict": STATE | {"linear.bias": value}}, "w.pth")
    assert not (model.linear.weight == 1).any()


def test_weights_of_another_precision_and_of_data_parallel_training_load():
    model = Line()
    for dtype in (torch.half, torch.float8_e4m3fn):
        narrow = {f"module.{k}": v.to(dtype) for k, v in STATE.items()}
        load_weights(model, narrow)
        assert model.linear.weight.tolist() == [[1, 1]]
        assert model.linear.weight.dtype == torch.float32
    inner = {f"module.backbone.{k}": 2 * v for k, v in STATE.items()}
    load_weights(model, inner, prefix="backbone.")
    assert model.linear.weight.tolist() == [[2, 2]]


class Classifier(BaseModel):
    """A backbone with an output norm, and a head."""

    def __init__(self, width: int = 3, classes: int = 2) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.embed = nn.Linear(2, width)
        self.backbone.stage = nn.Linear(width, width)
        self.backbone.norm0 = nn.LayerNorm(width)
        self.head = nn.Linear(3, classes)

    def forward(self, inputs, mode="tensor"):
        return inputs


def test_weights_to_start_from_must_fit_the_backbone():
    """Weights of which only the head fits are those of another network."""
    other = Classifier(width=4).state_dict()
    with pytest.raises(CheckpointError) as seen:
        check_weights(Classifier(), other, "start.pth", partial=True)
    message = str(seen.value)
    assert "start.pth: the weights do not fit" in message
    assert "4 of another shape: backbone.embed.weight (4, 2), not (3, 2)" in message
    assert "allow_missing=['backbone.']" in message  # what allows it
    allowed = check_weights(
        Classifier(), other, partial=True, allow_missing=("backbone.",)
    )
    assert allowed.keys() == {"head.weight", "head.bias"}

    weights = Classifier(classes=7).state_dict()
    del weights["backbone.norm0.weight"], weights["backbone.norm0.bias"]
    fitting = check_weights(Classifier(), weights, partial=True)
    assert fitting.keys() == {n for n in weights if n.startswith("backbone.")}
    del weights["backbone.stage.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: backbone\.stage\.bias\)"):
        check_weights(Classifier(), weights, partial=True)


# --- the newest of a run ----------------------------------------------------------


def test_the_latest_checkpoint_is_found_after_a_move(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "last_checkpoint").write_text("/old/place/epoch_2.pth")
    assert latest_checkpoint(tmp_path) == Path("/old/place/epoch_2.pth")
    (tmp_path / "epoch_2.pth").write_bytes(b"")
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch_2.pth"


@pytest.mark.parametrize("pointer", [None, b"", b"\xff\x00binary", b"\x00"])
def test_without_a_pointer_the_newest_whole_checkpoint_is_taken(tmp_path, pointer):
    """A run that began again would overwrite them."""
    if pointer is not None:
        (tmp_path / "last_checkpoint").write_bytes(pointer)
    for epoch in (2, 9, 10, 11):
        save_checkpoint(RUN, tmp_path / f"epoch_{epoch}.pth")
    save_checkpoint(RUN, tmp_path / "best_accuracy_epoch_12.pth")
    (tmp_path / "epoch_x.pth").write_bytes(b"")
    newest = tmp_path / "epoch_11.pth"
    assert latest_checkpoint(tmp_path) == newest
    whole = bytearray(newest.read_bytes())
    whole[whole.index(STATE["linear.weight"].numpy().tobytes())] ^= 1
    newest.write_bytes(whole)
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch_10.pth"
    save_checkpoint(RUN, tmp_path / "iter_40.pth")
    os.utime(tmp_path / "iter_40.pth", (2e9, 2e9))
    assert latest_checkpoint(tmp_path) == tmp_path / "iter_40.pth"
    for path in tmp_path.glob("*_*.pth"):
        path.write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"no epoch_\*\.pth .* is whole"):
        latest_checkpoint(tmp_path)


def test_a_pointer_that_is_no_text_is_named(tmp_path):
    (tmp_path / "last_checkpoint").write_bytes(b"\xff\x00binary")
    with pytest.raises(CheckpointError, match="last_checkpoint is damaged"):
        latest_checkpoint(tmp_path)
