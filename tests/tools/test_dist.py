"""Several processes: the launchers, and what they need on CPUs."""

import os
import pickle
import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch
import toy
from mmengine.config import Config
from processes import run_in_two
from torch import distributed

from cluenet_mm.training.distributed import setup_launcher

WORK = "work_dirs/toy_config"


def script(name: str, *words: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(toy.TOOLS / name), *words],
        env={**toy.environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_two_processes_train_resume_and_test(tmp_path):
    config = toy.write_config(tmp_path).name
    options = ("--cfg-options", "train_cfg.max_epochs=3")
    command = ("dist_train.sh", config, 2, *options)
    slow = ("model.delay=0.3", "model.nan_at=[5]")
    process = toy.start(tmp_path, *command, *slow)
    output = toy.interrupt(process, tmp_path / WORK, 8, signal.SIGINT)
    assert process.returncode != 0
    assert "2 processes on the CPU" in output
    assert "[1][3/3]" in output  # 24 samples, batches of 4 in two processes
    assert "skipped_steps: 1" in output
    assert output.count("continue with: the same command and --resume") == 1

    run_in_two(tmp_path, "train.py", config, *options, "--resume")
    before, after = toy.losses_of_runs(tmp_path / WORK)
    assert list(after) == [7, 8, 9]
    assert (before[7], before[8]) == (after[7], after[8])

    predictions = tmp_path / "predictions.pkl"
    words = (config, f"{WORK}/epoch_3.pth", "--out", predictions)
    run_in_two(tmp_path, "test.py", *words)
    assert len(pickle.loads(predictions.read_bytes())) == 16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dist_train.sh", ["config.py"]),
        ("dist_test.sh", ["config.py", "model.pth"]),
        ("slurm_train.sh", ["partition", "job"]),
        ("slurm_test.sh", ["partition", "job", "config.py"]),
    ],
)
def test_a_missing_argument_prints_the_usage(name, words):
    result = script(name, *words)
    assert result.returncode == 2
    assert result.stderr.startswith(f"usage: {name} ")
    assert result.stderr.count("\n") == 1


def test_the_number_of_processes_is_checked(tmp_path):
    result = script("dist_train.sh", "config.py", "two")
    assert result.returncode == 2
    assert "GPUS must be a positive number, got 'two'" in result.stderr
    # Stands for a machine with one GPU.
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 1\n")
    python.chmod(0o755)
    result = script("dist_train.sh", "config.py", "2", PYTHON=str(python))
    assert result.returncode == 1
    assert "GPUS is 2, but PyTorch sees 1 CUDA device(s)" in result.stderr


def test_a_test_in_several_processes_is_started_by_torchrun(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 0 || echo "$@"\n')
    python.chmod(0o755)
    words = ("my config.py", "model.pth", "2", "--out", "a.pkl")
    result = script("dist_test.sh", *words, PYTHON=str(python))
    assert result.returncode == 0, result.stderr
    assert "-m torch.distributed.run --standalone --nproc-per-node=2" in result.stdout
    tool = f"{toy.TOOLS}/test.py my config.py model.pth --out a.pkl"
    assert f"{tool} --launcher pytorch" in result.stdout


def test_slurm_gets_one_task_for_each_gpu(tmp_path):
    assert "without Slurm use dist_train.sh" in script("slurm_train.sh", *"pjc").stderr
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    srun.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    words = script(
        *(
            "slurm_test.sh",
            "part",
            "job",
            "my config.py",
            "model.pth",
            "--out",
            "a.pkl",
        ),
        **{"PATH": path, "GPUS": "4", "SRUN_ARGS": "--quiet --time=5"},
    ).stdout.splitlines()
    assert {"--partition=part", "--ntasks=4", "--gres=gpu:4", "--time=5"} < set(words)
    start = words.index(str(toy.TOOLS / "test.py"))
    assert words[start + 1 :] == [
        *("my config.py", "model.pth", "--out", "a.pkl", "--launcher", "slurm")
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_config_is_made_fit_for_cpus(monkeypatch, tmp_path):
    norm = {"type": "SyncBN", "requires_grad": True}
    layers = [{"type": "Conv2d", "norm_cfg": norm}]
    cfg = Config({"model": {"norm_cfg": norm, "layers": layers}})
    with pytest.raises(ValueError, match="launcher slurm on CPUs"):
        setup_launcher(cfg, "slurm")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="without torchrun"):
        setup_launcher(cfg, "pytorch")
    setup_launcher(cfg, "none")
    assert cfg.model.norm_cfg.type == "SyncBN"

    free = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost"}
    for name, value in {**free, "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    try:
        setup_launcher(cfg, "pytorch")
        assert distributed.get_backend() == "gloo"
    finally:
        distributed.destroy_process_group()
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model.norm_cfg.type == cfg.model.layers[0].norm_cfg.type == "BN"


def test_the_scripts_run_from_anywhere():
    for name in ("dist_train.sh", "dist_test.sh", "slurm_train.sh", "slurm_test.sh"):
        assert os.access(Path(toy.TOOLS, name), os.X_OK)


def test_the_flexible_runner_of_the_docs_trains_and_resumes_like_the_default(tmp_path):
    """docs/scaling.md has its lines; dropout and order of the data included."""
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text()
    (lines,) = re.findall(r"^(runner_type = .*?)^default_hooks", page, re.M | re.S)
    work = tmp_path / "work"
    options = ("--work-dir", work)
    config = toy.write_config(tmp_path)
    run_in_two(tmp_path, "train.py", config, "--work-dir", tmp_path / "default")
    # What this runner has no default for.
    backend = "dict(type='LocalVisBackend')"
    lines += f"visualizer = dict(type='Visualizer', vis_backends=[{backend}])\n"
    lines += "env_cfg = dict(dist_cfg=dict(backend='gloo'))\n"
    config = toy.write_config(tmp_path, lines)
    run_in_two(tmp_path, "train.py", config, *options)
    resume = ("--resume", work / "epoch_3.pth")
    output = run_in_two(tmp_path, "train.py", config, *options, *resume)
    assert "resumed epoch: 3, iter: 9" in output
    expected = toy.losses(tmp_path / "default")
    whole, resumed = toy.losses_of_runs(work)
    assert whole == expected
    assert resumed == {step: expected[step] for step in (10, 11, 12)}
