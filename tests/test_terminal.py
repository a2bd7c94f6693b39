"""What a person sees of a run, and what the log file keeps."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest
import toy

from cluenet_mm.summary import results

WORK = "work_dirs/toy_config"
# Of MMEngine's environment, configuration and hooks.
LISTS = ("System environment:", "Config:", "EpochSeedHook", "optim_wrapper = dict(")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder and output of a run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    toy.write_config(folder)
    options = ("--cfg-options", "train_cfg.max_epochs=2")
    return folder, toy.run(folder, "train.py", "toy_config.py", *options)


def test_a_run_begins_with_five_lines_and_its_lists_are_in_the_log(trained):
    folder, output = trained
    before = output[: output.index("Epoch(train)")].splitlines()[:-1]
    assert "WARNING" in before.pop(0)  # of the toy, whose metric has no prefix
    assert [line.split()[0] for line in before] == [
        *("device", "data", "model", "training", "log")
    ]
    assert before[1] == "data      train 24, val 16, classes 2"
    assert "ToyModel, 74 parameters" in before[2]
    assert "2 epochs of 6 steps of 4 images, AdamW, learning rate 0.01" in before[3]
    log = before[4].split(None, 1)[1]
    text = (folder / log).read_text()
    assert all(part in text for part in LISTS)
    assert not [part for part in LISTS if part in output]
    assert "Epoch(val) [2][2/2]" in output
    last = output.splitlines()[-2:]
    assert last[0] == "Last validation"
    assert last[1].split()[0] == "accuracy:"


def test_a_test_says_its_number_in_a_few_lines(trained):
    folder, _ = trained
    output = toy.run(folder, "test.py", "toy_config.py", f"{WORK}/epoch_2.pth")
    lines = output.splitlines()
    assert len(lines) <= 12, output
    assert lines[-2:][0] == "Result"
    assert 0 <= float(lines[-1].split("accuracy:")[1]) <= 1
    assert f"weights   {WORK}/epoch_2.pth" in lines


def test_a_terminal_gets_a_bar_in_place_of_lines(tmp_path):
    config = toy.write_config(tmp_path)
    command = [sys.executable, str(toy.TOOLS / "train.py"), str(config)]
    command += ["--work-dir", str(tmp_path / "work"), "--cfg-options"]
    command += ["train_cfg.max_epochs=1", "model.delay=0.2"]
    terminal, inner = pty.openpty()
    environment = {**toy.environment(), "COLUMNS": "70"}
    process = subprocess.Popen(command, stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    parts = []
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(terminal, 4096):
            parts.append(part)
    os.close(terminal)
    printed = b"".join(parts).decode()
    assert process.wait(timeout=60) == 0, printed
    bars = [part for part in printed.split("\r\033[K") if part.startswith("epoch 1/1")]
    assert len(bars) >= 2, printed
    assert "/6  loss " in bars[-1]
    assert max(len(bar) for bar in bars) < 70
    assert "Epoch(train)" not in printed
    assert "Epoch(val) [1][2/2]" in printed
    (log,) = (tmp_path / "work").glob("*/*.log")
    assert "Epoch(train)" in log.read_text()


def test_a_rate_that_a_resumed_run_cannot_have_is_said(trained):
    folder, _ = trained
    command = ("train.py", "toy_config.py", "--resume", "--cfg-options")
    said = "A resumed run keeps the learning rate of its checkpoint, 0.01: the 0.005"
    output = toy.run(folder, *command, "train_cfg.max_epochs=3", "--auto-scale-lr")
    assert said in output
    assert f"load_from={WORK}/epoch_2.pth" in output
    output = toy.run(folder, *command, "train_cfg.max_epochs=4")
    assert "keeps the learning rate" not in output


def test_a_slow_run_says_how_long_it_takes(tmp_path):
    toy.write_config(tmp_path)
    options = ("train_cfg.max_epochs=3", "train_dataloader.batch_size=24")
    command = ("train.py", "toy_config.py", "--no-validate", "--cfg-options", *options)
    output = toy.run(tmp_path, *command, "model.delay=2.1")
    assert output.count("A step takes 2 s; 0:00:02 are left") == 1
    assert "A step takes" not in toy.run(tmp_path, *command)


def test_results_are_numbers_in_columns():
    found = {"coco/bbox_mAP": 0.25, "copypaste": "0.25 0.5", "PQ": 31}
    assert results("Result", found).splitlines() == [
        "Result",
        "  coco/bbox_mAP:    0.2500",
        "  PQ:              31.0000",
    ]
