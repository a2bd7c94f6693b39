"""tools/train.py and tools/test.py as a user runs them."""

import pickle
import signal
from pathlib import Path

import dense_data
import numpy as np
import pytest
import torch
import toy
from mmengine.config import Config
from PIL import Image

from cluenet_mm.checkpoint import load_checkpoint, save_checkpoint
from cluenet_mm.runner import set_resume

WORK = "work_dirs/toy_config"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Folder of an uninterrupted run of four epochs, with one worker."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    toy.write_config(folder, workers=1)
    toy.run(folder, "train.py", "toy_config.py")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    trained, tmp_path, number
):
    config = toy.write_config(tmp_path, workers=1)
    process = toy.start(
        tmp_path, "train.py", config.name, "--cfg-options", "model.delay=0.15"
    )
    output = toy.interrupt(process, tmp_path / WORK, 14, number)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "Interrupted in epoch 3, iteration " in output
        assert f"{config.name} --cfg-options model.delay=0.15 --resume" in output
        assert "Traceback" not in output
    assert len(toy.losses(tmp_path / WORK)) < 24

    output = toy.run(tmp_path, "train.py", config.name, "--resume")
    assert "resumed epoch: 2, iter: 12" in output
    expected = toy.losses(trained / WORK)
    assert sorted(expected) == list(range(1, 25))
    assert toy.losses(tmp_path / WORK) == expected
    weights = [
        load_checkpoint(folder / WORK / "epoch_4.pth")["state_dict"]
        for folder in (trained, tmp_path)
    ]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_crash_keeps_its_traceback_and_resumes_in_an_iteration_based_run(tmp_path):
    config = toy.write_config(tmp_path, toy.ITERATIONS, workers=1)
    command = ("train.py", config)
    crash = ("--cfg-options", "model.crash_at=18")
    output = toy.run(tmp_path, *command, *crash, status=1)
    assert "Traceback" in output
    assert "RuntimeError: the toy crashed" in output
    toy.run(tmp_path, *command, "--resume")
    before, after = toy.losses_of_runs(tmp_path / WORK)
    assert list(before) == list(range(1, 18))
    assert list(after) == list(range(13, 25))
    assert [before[i] for i in range(13, 18)] == [after[i] for i in range(13, 18)]


def test_resume_without_and_after_training(trained):
    output = toy.run(trained, "train.py", "toy_config.py", "--resume")
    assert "Already finished" in output
    assert "epoch 4 of 4" in output
    assert len(list((trained / WORK).glob("*/vis_data"))) == 1
    output = toy.run(
        trained,
        *("train.py", "toy_config.py", "--work-dir", "new", "--resume", "auto"),
        *("--cfg-options", "train_cfg.max_epochs=1"),
        "--no-validate",
    )
    assert "No checkpoint in new: training starts from the beginning" in output
    assert "Epoch(val)" not in output
    # MMEngine's own way to say so, without and with a checkpoint there.
    words = ("train.py", "toy_config.py", "--work-dir", "own", "--no-validate")
    words += ("--cfg-options", "resume=True")
    for epochs in (1, 2):
        output = toy.run(trained, *words, f"train_cfg.max_epochs={epochs}")
        assert "Last validation" not in output
    assert list(toy.losses_of_runs(trained / "own")[1]) == list(range(7, 13))
    output = toy.run(trained, *words, "train_cfg.max_epochs=2")
    assert "Already finished" in output
    assert (trained / "new" / "epoch_1.pth").is_file()


def test_a_truncated_last_checkpoint_names_an_older_one(trained, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    good, bad = work / "epoch_3.pth", work / "epoch_4.pth"
    good.write_bytes((trained / WORK / good.name).read_bytes())
    bad.write_bytes((trained / WORK / bad.name).read_bytes()[:-2000])
    (work / "last_checkpoint").write_text(f"/moved/elsewhere/{bad.name}")
    config = toy.write_config(tmp_path)
    command = ("train.py", config, "--work-dir", work, "--resume")
    output = toy.run(tmp_path, *command, status=1)
    assert f"{bad} is cut short" in output
    assert f"An older one is whole: go on with --resume {good}" in output
    assert "Traceback" not in output


def test_a_resume_leaves_the_tensors_to_the_runner(trained):
    path = trained / "large.pth"
    state = load_checkpoint(trained / WORK / "epoch_3.pth")
    save_checkpoint({**state, "more": torch.zeros(1_000_000)}, path)
    before = bytes_read()
    assert set_resume(Config({"train_cfg": {"max_epochs": 4}}), str(path))
    assert bytes_read() - before < 500_000


def bytes_read() -> int:
    """By this process so far, without what it looked at through mapped memory."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_folder_without_a_pointer_is_gone_on_with(trained, tmp_path):
    """Its checkpoints would be overwritten by a run from the beginning."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("epoch_3.pth", "epoch_4.pth"):
        (work / name).write_bytes((trained / WORK / name).read_bytes())
    broken = bytearray((work / "epoch_4.pth").read_bytes())
    broken[broken.index(b"/data/0") + 200] ^= 1  # which no loading notices
    (work / "epoch_4.pth").write_bytes(broken)
    config = toy.write_config(tmp_path)
    toy.run(tmp_path, "train.py", config, "--work-dir", work, "--resume")
    (losses,) = toy.losses_of_runs(work)
    assert list(losses) == list(range(19, 25))


@pytest.mark.parametrize("epochs", [4, 5])
def test_a_checkpoint_of_another_network_is_no_run_to_go_on_with(
    trained, tmp_path, monkeypatch, epochs
):
    monkeypatch.chdir(tmp_path)
    work = trained / WORK
    before = {path.name: path.stat().st_mtime_ns for path in work.glob("*.pth")}
    options = ("model.width=9", f"train_cfg.max_epochs={epochs}")
    message, printed = dense_data.run_tool(
        *("train.py", trained / "toy_config.py", "--work-dir", "other"),
        *("--resume", work / "epoch_4.pth", "--cfg-options", *options),
    )
    assert message.startswith(f"error: checkpoint {work / 'epoch_4.pth'}: the weights")
    assert "layers.0.weight (8, 6), not (9, 6)" in message
    assert "Already finished" not in printed
    assert not list(tmp_path.rglob("*.pth"))
    after = {path.name: path.stat().st_mtime_ns for path in work.glob("*.pth")}
    assert after == before


def test_weights_to_start_from(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = load_checkpoint(trained / WORK / "epoch_4.pth")["state_dict"]
    others = {f"x.{name}": value for name, value in weights.items()}
    save_checkpoint({"state_dict": others}, tmp_path / "others.pth")
    command = ("train.py", trained / "toy_config.py", "--cfg-options")
    message, _ = dense_data.run_tool(*command, "load_from=gone.pth")
    assert message == "error: checkpoint gone.pth does not exist"
    assert not (tmp_path / "work_dirs").exists()
    message, _ = dense_data.run_tool(*command, "load_from=others.pth")
    assert message.startswith("error: checkpoint others.pth: the weights do not fit")
    assert "4 missing: layers.0.weight" in message

    del weights["layers.3.bias"]  # as of another head
    save_checkpoint({"state_dict": weights}, tmp_path / "start.pth")
    code, _ = dense_data.run_tool(
        *command, "load_from=start.pth", "train_cfg.max_epochs=1"
    )
    assert code == 0
    assert (tmp_path / WORK / "epoch_1.pth").is_file()


def test_an_interruption_before_the_first_save_keeps_the_start(trained, tmp_path):
    start = trained / WORK / "epoch_3.pth"
    config = toy.write_config(tmp_path)
    command = ("train.py", config.name, "--work-dir", "new", "--resume", start)
    slow = ("--cfg-options", "model.delay=0.3", "train_cfg.max_epochs=5")
    process = toy.start(tmp_path, *command, *slow)
    output = toy.interrupt(process, tmp_path / "new", 19, signal.SIGINT)
    assert process.returncode == 130
    assert f"--work-dir new --resume {start} --cfg-options" in output
    assert not output.rstrip().endswith("--resume")


def test_amp_and_scaled_learning_rate_on_a_cpu(tmp_path):
    config = toy.write_config(tmp_path)
    output = toy.run(
        tmp_path,
        *("train.py", config, "--amp", "--auto-scale-lr"),
        *("--cfg-options", "train_cfg.max_epochs=1", "model.nan_at=[2]"),
    )
    assert "AdamW" in output.split("mixed precision, ")[1].splitlines()[0]
    assert "Scaling the original LR by 0.5" in output
    assert "Skipped a step: loss nan and gradient norm nan at iteration 2" in output
    assert "skipped_steps: 1" in output
    assert len(toy.losses(tmp_path / WORK)) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.py", "nowhere.py"), "cannot read config nowhere.py"),
        (("train.py", "{config}", "--resume", "gone.pth"), "gone.pth does not exist"),
        (
            ("train.py", "{config}", "--resume", "cluenet_mm://cluenet_micro_cifar100"),
            "cluenet_mm://cluenet_micro_cifar100 holds weights without the state",
        ),
        (("train.py", "{config}", "--cfg-options", "seed"), "expected KEY=VALUE"),
        (("train.py", "{config}", "--cfg-options", "a=[[1]"), "Imbalanced brackets"),
        (("train.py", "{config}", "--launcher", "pytorch"), "dist_train.sh"),
        (("test.py", "{config}", "gone.pth"), "gone.pth does not exist"),
        (("test.py", "{config}", "x.pth", "--out", "x.csv"), "ends in .pkl"),
        (
            ("test.py", "{config}", "{config}", "--tta"),
            "cannot use --tta: the config has no tta_model",
        ),
        (
            ("test.py", "{config}", "{config}", "--show-dir", "d"),
            "cannot tell the task",
        ),
        (("test.py", "{config}", "{config}"), "is no PyTorch checkpoint"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, monkeypatch, words, message):
    config = toy.write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [word.format(config=config.name) for word in words]
    status, printed = dense_data.run_tool(*words)
    assert message in (status if isinstance(status, str) else printed)
    assert "Traceback" not in printed


def test_test_writes_predictions_and_refuses_other_weights(trained):
    checkpoint = f"{WORK}/epoch_4.pth"
    output = toy.run(
        trained, "test.py", "toy_config.py", checkpoint, "--out", "out/predictions.pkl"
    )
    assert "accuracy" in output
    with (trained / "out" / "predictions.pkl").open("rb") as file:
        predictions = pickle.load(file)
    assert len(predictions) == 16
    assert [path.name for path in (trained / "out").iterdir()] == ["predictions.pkl"]
    output = toy.run(
        trained,
        *("test.py", "toy_config.py", checkpoint),
        *("--cfg-options", "model.width=9"),
        status=1,
    )
    assert "layers.0.weight (8, 6), not (9, 6)" in output
    assert "Traceback" not in output


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=2),
    head=dict(type='ClsHead', topk=(1,), loss=dict(type='CrossEntropyLoss')),
    data_preprocessor=dict(num_classes=2, mean=[0], std=[255]))
load = [dict(type='LoadImageFromFile', color_type='grayscale')]
pack = [dict(type='PackInputs')]
test_dataloader = dict(
    batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='data', pipeline=load + pack))
test_evaluator = dict(type='Accuracy', topk=1)
test_cfg = dict()
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
default_hooks = dict(visualization=dict(type='VisualizationHook', interval=5000))
tta_model = dict(type='AverageClsScoreTTA')
flips = [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)]
tta_pipeline = load + [dict(type='TestTimeAug', transforms=[flips, pack])]
"""


def test_show_dir_and_tta_with_a_classifier(tmp_path):
    pytest.importorskip("mmpretrain")
    for name in ("a/0.png", "a/1.bmp", "b/1.png", "b/1.bmp"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "classifier.py").write_text(CLASSIFIER)
    from mmpretrain.models import LeNet5

    weights = LeNet5(num_classes=2).state_dict()
    weights = {f"backbone.{name}": value for name, value in weights.items()}
    save_checkpoint({"state_dict": weights}, tmp_path / "weights.pth")
    command = ("test.py", "classifier.py", "weights.pth")
    output = toy.run(tmp_path, *command, "--tta")
    assert "AverageClsScoreTTA" in output
    assert "accuracy/top1" in output
    wrapper = tmp_path / "wrapped.py"  # whose names are those of the dataset in it
    wrapper.write_text(
        "_base_ = 'classifier.py'\n"
        "dataset = _base_.test_dataloader.dataset\n"
        "test_dataloader = dict(dataset=dict(\n"
        "    _delete_=True, type='RepeatDataset', times=1, dataset=dataset))\n"
    )
    for config in ("classifier.py", "wrapped.py"):
        shown = tmp_path / config.removesuffix(".py")
        toy.run(tmp_path, "test.py", config, "weights.pth", "--show-dir", shown)
        names = sorted(str(path.relative_to(shown)) for path in shown.rglob("*.png"))
        assert names == ["a/0.png", "a/1.png", "b/1.png", "b/1.png.png"]
