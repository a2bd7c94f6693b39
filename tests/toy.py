"""A model and a dataset that train in milliseconds, and how to run tools on them.

Every random stream that a real run uses is in play: the transforms draw from
Python's, NumPy's and PyTorch's generators, the model from PyTorch's.
"""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from processes import Process, environment
from torch import nn
from torch.utils.data import Dataset

HERE = Path(__file__).parent
TOOLS = HERE.parent / "tools"


@DATASETS.register_module()
class ToyDataset(Dataset):
    """``length`` vectors of 6 numbers whose sign of the sum is the class."""

    def __init__(self, length: int = 24) -> None:
        self.metainfo = {"classes": ("minus", "plus"), "palette": np.eye(2)}
        generator = torch.Generator().manual_seed(7)
        self.points = torch.randn(length, 6, generator=generator)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict:
        point = self.points[index]
        noise = random.random() + np.random.rand() + torch.randn(6)
        return {"inputs": point + 0.1 * noise, "label": int(point.sum() > 0)}


@MODELS.register_module()
class ToyModel(BaseModel):
    """Two layers with dropout; ``nan_at`` and ``crash_at`` count forward passes."""

    def __init__(self, delay=0.0, nan_at=(), crash_at=None, width=8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 2)
        )
        self.delay, self.nan_at, self.crash_at = delay, nan_at, crash_at
        self.calls = 0

    def forward(self, inputs, label, mode="tensor"):
        scores = self.layers(torch.stack(list(inputs)))
        label = torch.as_tensor(label)
        if mode != "loss":
            return list(zip(scores, label, strict=True))
        self.calls += 1
        if self.calls == self.crash_at:
            raise RuntimeError("the toy crashed")
        time.sleep(self.delay)
        loss = F.cross_entropy(scores, label)
        return {"loss": loss * float("nan") if self.calls in self.nan_at else loss}


@METRICS.register_module()
class ToyAccuracy(BaseMetric):
    def process(self, data_batch, data_samples) -> None:
        self.results += [int(s.argmax() == label) for s, label in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return {"accuracy": sum(results) / len(results)}


@HOOKS.register_module()
class DieInValidation(Hook):
    """End the process in its ``number``-th validation, without any clean-up."""

    def __init__(self, number: int | None) -> None:
        self.number, self.seen = number, 0

    def before_val(self, runner) -> None:
        self.seen += 1
        if self.seen == self.number:
            os._exit(9)


CONFIG = """
custom_imports = dict(imports=['toy'])
model = dict(type='ToyModel')
loader = dict(
    batch_size=4, num_workers=WORKERS, dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader = loader
val_dataloader = dict(
    batch_size=8, dataset=dict(type='ToyDataset', length=16),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='ToyAccuracy')
val_cfg = test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=4)
optim_wrapper = dict(
    type='cluenet_mm.GuardedOptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=4, convert_to_iter_based=True)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))
custom_hooks = [dict(type='cluenet_mm.EpochSeedHook')]
log_processor = dict(window_size=1)
randomness = dict(seed=3)
auto_scale_lr = dict(base_batch_size=8)
"""

ITERATIONS = """
train_cfg = dict(by_epoch=False, max_iters=24, val_interval=24)
train_dataloader.update(sampler=dict(type='InfiniteSampler', shuffle=True))
default_hooks.update(
    checkpoint=dict(type='CheckpointHook', interval=6, by_epoch=False))
log_processor = dict(window_size=1, by_epoch=False)
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=False, end=24)]
"""


def write_config(folder: Path, extra: str = "", workers: int = 0) -> Path:
    path = folder / "toy_config.py"
    path.write_text(CONFIG.replace("WORKERS", str(workers)) + extra)
    return path


def start(folder: Path, *words: object) -> subprocess.Popen | Process:
    """Start a tool in ``folder``; its output goes to one stream."""
    command = [str(TOOLS / str(words[0])), *map(str, words[1:])]
    # The folder of a run is named by the second; the next one would share it.
    newest = max((path.parent.name for path in folder.rglob("vis_data")), default="")
    while time.strftime("%Y%m%d_%H%M%S") <= newest:
        time.sleep(0.02)
    if not command[0].endswith(".sh"):
        return Process(command, folder, environment(), merged=True)
    return subprocess.Popen(
        ["bash", *command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Where the tests run in the background (nohup, CI), Ctrl-C is ignored, and
        # children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder: Path, *words: object, status: int = 0) -> str:
    """Run a tool to its end and return what it printed."""
    process = start(folder, *words)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == status, output
    return output


def interrupt(
    process: subprocess.Popen | Process, work_dir: Path, at: int, number: int
) -> str:
    """Send a signal once iteration ``at`` is in the log; returns the output."""
    deadline = time.monotonic() + 100
    while at not in losses(work_dir):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no iteration {at} in the log"
        time.sleep(0.02)
    os.killpg(process.pid, number)  # as the terminal does
    return process.communicate(timeout=60)[0]


def losses(work_dir: Path) -> dict[int, float]:
    """Training loss by iteration; what a later run wrote wins."""
    curve = {}
    for run_curve in losses_of_runs(work_dir):
        curve |= run_curve
    return curve


def losses_of_runs(work_dir: Path) -> list[dict[int, float]]:
    """Training loss by iteration for every run in a work dir, in order."""
    curves = []
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        lines = path.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        curves.append({e["iter"]: e["loss"] for e in entries if "loss" in e})
    return curves
