"""tools/reproduce/cifar100.py and the images in memory that it trains on."""

import contextlib
import fcntl
import io
import json
import os
import runpy
import shutil
import signal
import struct
import sys
import tarfile
import time
from collections import Counter

import numpy as np
import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from PIL import Image

from cluenet_mm import config_path
from cluenet_mm.analysis.reproduction import NETWORKS, PROTOCOLS, compose, table
from cluenet_mm.analysis.runs import read_run
from cluenet_mm.checkpoint import load_checkpoint
from cluenet_mm.datasets import TensorImages
from cluenet_mm.datasets.cifar100 import prepare, read_source

TOOL = "reproduce/cifar100.py"
CLASSES = ["apple", "bear", "camel"]


def python2(value) -> bytes:
    """Opcodes of Python 2's cPickle at protocol 2, which wrote the official files."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        items = (python2(part) for item in value.items() for part in item)
        return b"}(" + b"".join(items) + b"u"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    shape = b"".join(map(python2, value.shape)) + b"\x86"
    return (
        array + b"(K\x01" + shape + dtype + b"\x89" + python2(value.tobytes()) + b"tb"
    )


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            data = b"\x80\x02" + content + b"."
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make_images(count, seed):
    """Noise in a colour for each class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = rng.integers(0, 120, (count, 3, 32, 32))
    images[np.arange(count), labels] += 100
    return images.astype(np.uint8), labels


SPLITS = {"train": make_images(54, 0), "test": make_images(15, 1)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    files = {"meta": python2({"fine_label_names": CLASSES})}
    for split, (images, labels) in SPLITS.items():
        content = {"data": images.reshape(len(images), -1)}
        content |= {"batch_label": split, "fine_labels": labels.tolist()}
        files[split] = python2(content)
    return write_archive(
        tmp_path_factory.mktemp("data") / "cifar-100-python.tar.gz", files
    )


def write_strips(folder):
    for split, (images, labels) in SPLITS.items():
        (folder / split).mkdir(parents=True)
        for label, name in enumerate(CLASSES):
            strip = images[labels == label].transpose(0, 2, 3, 1).reshape(-1, 32, 3)
            path = folder / split / f"{label}_{name}.webp"
            Image.fromarray(strip).save(path, lossless=True)
    return folder


# --- sources ----------------------------------------------------------------------


def test_the_archive_and_strips_hold_the_same_images(archive, tmp_path):
    source = read_source(archive.parent)
    strips = read_source(write_strips(tmp_path))
    assert (source.kind, strips.kind) == ("archive", "strips")
    assert source.classes == strips.classes == CLASSES
    for split, (images, labels) in SPLITS.items():
        read = source.splits[split]
        assert (read.images == images).all()
        assert (read.labels == labels).all()
        order = np.argsort(labels, kind="stable")
        assert (strips.splits[split].images == images[order]).all()
        assert (strips.splits[split].labels == labels[order]).all()


def test_an_archive_cannot_run_code(tmp_path):
    content = b"cos\nmkdir\n(" + python2(str(tmp_path / "made")) + b"tR"
    path = write_archive(tmp_path / "evil.tar.gz", {"train": content})
    with pytest.raises(ValueError, match=r"asks for os\.mkdir, which is refused"):
        read_source(path)
    assert not (tmp_path / "made").exists()


def test_a_bad_source_is_one_clear_error(archive, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone does not exist; a source is"):
        read_source(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="holds no CIFAR-100"):
        read_source(tmp_path)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz is damaged .* fetch it again"):
        read_source(cut)
    folder = write_strips(tmp_path / "strips")
    Image.new("RGB", (32, 40)).save(folder / "test" / "1_bear.webp")
    with pytest.raises(ValueError, match=r"1_bear\.webp is 32 x 40, not 32 wide"):
        read_source(folder)
    (folder / "test" / "1_bear.webp").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1_bear\.webp cannot be read"):
        read_source(folder)


def test_the_first_classes_come_out_in_batches(archive, tmp_path):
    counts = prepare(read_source(archive), tmp_path, classes=2)
    assert counts == {"train": 36, "test": 10}
    dataset = TensorImages(str(tmp_path / "train.npz"))
    assert dataset.metainfo == {"classes": ("apple", "bear")}
    images, labels = SPLITS["train"]
    batch = dataset.__getitems__([5, 0])
    assert (batch["inputs"].numpy() == images[labels < 2][[5, 0]]).all()
    assert batch["labels"].tolist() == labels[labels < 2][[5, 0]].tolist()
    cut = tmp_path / "cut.npz"
    cut.write_bytes((tmp_path / "train.npz").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.npz cannot be read"):
        TensorImages(str(cut))
    arrays = {"images": images, "labels": labels, "classes": CLASSES}
    for wrong in ({"images": images / 255}, {"labels": labels[1:]}):
        np.savez(cut, **{**arrays, **wrong})
        with pytest.raises(ValueError, match=f"its {next(iter(wrong))} are"):
            TensorImages(str(cut))


# --- recipes ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_full_protocol_is_the_recipe_on_other_data(name):
    recipe = Config.fromfile(config_path(NETWORKS[name].config))
    cfg = compose(name, "full", 7, "data")
    for key in ("model", "optim_wrapper", "param_scheduler", "train_cfg", "val_cfg"):
        assert cfg[key] == recipe[key], key
    assert cfg.randomness.seed == 7
    assert cfg.train_dataloader.batch_size == recipe.train_dataloader.batch_size == 256
    crop, flip, _ = recipe.train_dataloader.dataset.pipeline
    ours = cfg.data_preprocessor
    assert crop == {"type": "RandomCrop", "crop_size": 32, "padding": ours.crop_padding}
    assert (flip.prob, flip.direction) == (ours.flip_prob, "horizontal")
    for key in ("mean", "std", "num_classes"):
        assert ours[key] == recipe.data_preprocessor[key], key


def test_the_reduced_protocol_scales_the_recipe(archive, tmp_path):
    prepare(read_source(archive), tmp_path, len(CLASSES))
    cfg = compose("cluenet", "reduced", 1, str(tmp_path))
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 10
    assert cfg.train_cfg.max_epochs == 6
    rate = cfg.optim_wrapper.optimizer.lr
    assert rate == pytest.approx(1.5e-2 / 4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedulers = []
    for item in cfg.param_scheduler:
        item = {k: v for k, v in item.items() if k != "convert_to_iter_based"}
        build = PARAM_SCHEDULERS.get(item.pop("type")).build_iter_from_epoch
        schedulers.append(build(optimizer=optimizer, epoch_length=20, **item))
    rates = []
    for _ in range(6 * 20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) == pytest.approx(rate)
    assert rates.index(max(rates)) in (19, 20)
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)
    assert rates[-1] < 2e-5


# --- augmentation -----------------------------------------------------------------


def variants(image):
    """All that the recipe can make of an image (3 x 32 x 32), by their bytes."""
    padded = np.pad(image, [(0, 0), (4, 4), (4, 4)])
    crops = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    return {crop[..., ::step].tobytes() for crop in crops for step in (1, -1)}


def test_augmentation_is_that_of_the_recipe():
    cfg = compose("cluenet", "full", 0, "data")
    init_default_scope(cfg.default_scope)
    preprocessor = MODELS.build(cfg.data_preprocessor)
    image = np.random.default_rng(2).integers(0, 256, (3, 32, 32), np.uint8)
    recipe = Config.fromfile(config_path(NETWORKS["cluenet"].config))
    pipeline = Compose(recipe.train_dataloader.dataset.pipeline)

    def by_pipeline(count):
        sample = {"img": image.transpose(1, 2, 0), "gt_label": 0}
        return [pipeline(dict(sample))["inputs"].numpy() for _ in range(count)]

    def in_a_batch(count):
        images = torch.from_numpy(image).expand(count, -1, -1, -1)
        return preprocessor.augment(images).numpy()

    torch.manual_seed(0)
    np.random.seed(0)
    expected = variants(image)
    assert len(expected) == 162
    for draw, each in ((by_pipeline, 10), (in_a_batch, 60)):
        counts = Counter(x.tobytes() for x in draw(162 * each))
        assert counts.keys() == expected
        # 161 degrees of freedom: a mean of 161 and a standard deviation of 18.
        assert sum((n - each) ** 2 / each for n in counts.values()) < 161 + 5 * 18


def test_the_preprocessor_gives_heads_what_they_expect():
    cfg = compose("cluenet", "full", 0, "data")
    init_default_scope(cfg.default_scope)
    ours = MODELS.build(cfg.data_preprocessor)
    recipe = Config.fromfile(config_path(NETWORKS["cluenet"].config))
    theirs = {"type": "mmpretrain.ClsDataPreprocessor", **recipe.data_preprocessor}
    images, labels = map(torch.from_numpy, SPLITS["test"])
    batch = ours({"inputs": images, "labels": labels})
    expected = MODELS.build(theirs)({"inputs": list(images)})
    torch.testing.assert_close(batch["inputs"], expected["inputs"], rtol=0, atol=0)
    assert [s.gt_label.item() for s in batch["data_samples"]] == labels.tolist()

    torch.manual_seed(3)
    training = ours({"inputs": images, "labels": labels}, training=True)
    (sample,) = training["data_samples"]
    assert sample.gt_label.tolist() == labels.tolist()
    assert not torch.equal(training["inputs"], batch["inputs"])
    torch.manual_seed(3)
    again = ours({"inputs": images, "labels": labels}, training=True)
    assert torch.equal(again["inputs"], training["inputs"])
    assert "data_samples" not in {
        key for key, value in ours({"inputs": images}).items() if value is not None
    }
    with pytest.raises(ValueError, match="no batch augmentations"):
        MODELS.build({**cfg.data_preprocessor, "batch_augments": {"augments": "x"}})


def test_the_loader_covers_an_epoch_in_another_order_each_time(archive, tmp_path):
    prepare(read_source(archive), tmp_path, len(CLASSES))
    cfg = compose("coc", "smoke", 0, str(tmp_path))
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches = [batch["inputs"] for batch in loader]
        assert [len(batch) for batch in batches] == [16, 16, 16, 6]
        orders.append([image.numpy().tobytes() for image in torch.cat(batches)])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


# --- the tool ---------------------------------------------------------------------


def words(archive, out, *more):
    fixed = ("--data", archive, "--out", out, "--protocol", "smoke", "--device", "cpu")
    return (*fixed, "--models", "coc", *more)


def read(out, seed):
    return json.loads((out / f"results/smoke_coc_seed{seed}.json").read_text())


def here(*command):
    """Run the tool in this process; returns what it exits with."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [TOOL, *map(str, command)])
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("OMP_NUM_THREADS", "1")
        with pytest.raises(SystemExit) as ending:
            runpy.run_path(str(toy.TOOLS / TOOL), run_name="__main__")
    signal.signal(signal.SIGTERM, before)
    return ending.value.code


@pytest.fixture(scope="module")
def finished(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    assert here(*words(archive, out, "--seeds", 0)) == 0
    return out


def test_a_run_leaves_all_that_can_be_asked_about_it(finished):
    record = read(finished, 0)
    assert (record["network"], record["seed"], record["device"]) == ("coc", 0, "CPU")
    assert [metric["step"] for metric in record["metrics"]] == [1, 2, 3]
    assert record["data"]["train_images"] == 36
    assert record["learning_rate"] == pytest.approx(3e-3 / 16)
    assert record["versions"]["torch"] == torch.__version__
    assert record["wall_hours"] > 0
    speed = record["images_per_second"]
    assert 0 < speed["training"] < speed["loader"]
    path = finished / "runs/smoke_coc_seed0/composed/cls_cifar100_smoke.py"
    assert Config.fromfile(path).randomness.seed == 0


def test_an_interrupted_run_ends_with_the_numbers_of_a_whole_one(
    archive, finished, tmp_path, capsys
):
    process = toy.start(tmp_path, TOOL, *words(archive, "out", "--seeds", 0))
    for line in process.stdout:
        if "epoch 2 of 3" in line:
            break
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted; the same command goes on" in output
    out = tmp_path / "out"
    assert not list(out.glob("results/*"))
    assert here(*words(archive, out, "--seeds", 0, 1)) == 0
    assert "smoke_coc_seed0: goes on after epoch" in capsys.readouterr().out
    ours, theirs = read(out, 0), read(finished, 0)
    assert ours["loss"] == theirs["loss"]
    assert ours["metrics"] == theirs["metrics"]
    weights = [
        load_checkpoint(folder / "runs/smoke_coc_seed0/epoch_3.pth")["state_dict"]
        for folder in (out, finished)
    ]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert read(out, 1)["loss"] != ours["loss"]
    assert read(out, 1)["config"] == "coc/cls_cifar100.py"
    page = (out / "cifar100_smoke.md").read_text()
    assert "No result, only a trial" in page
    row = next(line for line in page.splitlines() if "Context Cluster" in line)
    assert "±" in row
    assert "| 71.92 |" in row
    assert "| 0, 1 |" in row


def test_some_networks_of_a_protocol_keep_its_seeds(monkeypatch):
    script = runpy.run_path(str(toy.TOOLS / TOOL))

    def asked(*words):
        monkeypatch.setattr(
            sys, "argv", [TOOL, "--data", "a", "--out", "b", *map(str, words)]
        )
        return script["runs_of"](script["parse_args"]())

    assert asked() == list(PROTOCOLS["full"].runs)
    some = asked("--models", "cluenet", "coc")
    assert some == [("cluenet", 0), ("coc", 0), ("cluenet", 1)]
    assert asked("--models", "coc", "--seeds", 3, 4) == [("coc", 3), ("coc", 4)]


def test_a_line_that_a_killed_process_left_is_no_obstacle(finished, tmp_path):
    work = next(finished.glob("runs/*"))
    copy = tmp_path / "run"
    shutil.copytree(work, copy)
    before = read_run(copy)
    scalars = next(copy.glob("*/vis_data/scalars.json"))
    scalars.write_text(scalars.read_text() + '{"loss": 0.3, "st')
    assert read_run(copy) == before


def test_what_is_finished_or_taken_is_left_alone(archive, finished, tmp_path, capsys):
    assert here(*words(archive, finished)) == 0
    assert "smoke_coc_seed0: finished already" in capsys.readouterr().out
    folder = finished / "runs/smoke_coc_seed5"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert here(*words(archive, finished, "--seeds", 5)) == 1
    assert "another process is training it" in capsys.readouterr().out
    (folder / "composed").mkdir()
    (folder / "composed/cls_cifar100_smoke.py").write_text("other = 1\n")
    assert here(*words(archive, finished, "--seeds", 5)) == 1
    assert "begun with another config" in capsys.readouterr().out
    other = write_strips(tmp_path / "strips")
    assert "comes from another source" in here(*words(other, finished))


def test_results_of_another_recipe_are_not_taken_for_finished(
    archive, finished, tmp_path, capsys
):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    result = out / "results/smoke_coc_seed0.json"
    result.write_text(json.dumps(read(out, 0) | {"config_sha256": "another"}))
    assert here(*words(archive, out)) == 1
    assert f"{result} is of another config; remove it" in capsys.readouterr().out
    result.write_text("{")
    assert here(*words(archive, out, "--seeds", 0)) == 1


def test_what_was_removed_is_made_again(archive, finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = read(out, 0)
    (out / "results/smoke_coc_seed0.json").unlink()
    (out / "data/smoke/train.npz").unlink()
    assert here(*words(archive, out)) == 0
    after = read(out, 0)
    assert after.pop("images_per_second") != before.pop("images_per_second")
    assert after == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_training_ends_with_a_tool_that_is_killed(archive, tmp_path):
    process = toy.start(tmp_path, TOOL, *words(archive, "out", "--seeds", 0))
    for line in process.stdout:
        if "epoch 1 of 3" in line:
            break
    process.kill()
    process.communicate(timeout=60)  # the pipe is the tool's alone
    lock = tmp_path / "out/runs/smoke_coc_seed0/.lock"
    with lock.open("w") as file:
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        else:
            pytest.fail("training goes on")


def test_a_source_needs_all_classes_and_images(archive, tmp_path):
    known = ("--data", archive, "--out", tmp_path / "out", "--protocol")
    assert "the source has 3 classes, the protocol 100" in here(*known, "full")
    check = runpy.run_path(str(toy.TOOLS / TOOL))["check_complete"]
    whole = PROTOCOLS["reduced"]._replace(classes=3)
    with pytest.raises(ValueError, match=r"class apple .* has 18 train images, .* 500"):
        check(read_source(archive), whole)
    assert not (tmp_path / "out").exists()


def test_a_device_is_the_only_one_of_its_training(monkeypatch):
    choose = runpy.run_path(str(toy.TOOLS / TOOL))["choose_device"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose(None) == choose("cuda") == ("cuda:0", "0")
    assert choose("cuda:1") == ("cuda:1", "1")
    assert choose("cpu") == ("cpu", "")
    with pytest.raises(ValueError, match="--device cuda:2: PyTorch finds 2 GPUs"):
        choose("cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert choose("cuda:1") == ("cuda:1", "7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose(None) == ("cpu", "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("--data", "gone"), "error: gone does not exist; a source is"),
        (("--device", "tpu"), "--device tpu: it is cpu, cuda or cuda:N"),
        (("--device", "cuda:99"), "--device cuda:99: PyTorch finds"),
    ],
)
def test_bad_input_is_one_clear_line(archive, tmp_path, command, message):
    known = ("--data", archive, "--out", tmp_path / "out", *command)
    assert message in here(*known)
    assert not (tmp_path / "out").exists()


def test_a_page_shows_means_deviations_and_what_was_not_run(tmp_path, monkeypatch):
    run = {"network": "fec", "epochs": 6, "device": "CPU", "wall_hours": 0.5}
    run |= {"config": "fec/cls_cifar100.py", "backbone": "FEC", "length": "6 epochs"}
    run["images_per_second"] = {"training": 41.6, "loader_and_augmentation": 6e4}
    runs = [
        {**run, "seed": i, "parameters": 2000, "metrics": [{"accuracy/top1": top1}]}
        for i, top1 in enumerate((60.0, 62.0, 64.0))
    ]
    results = {"protocol": "reduced", "runs": runs}
    text = table(results)
    assert text.startswith(PROTOCOLS["reduced"].text)
    row = "| FEC mini | 2,000 | 69.73 | 62.00 ± 2.00 | 0, 1, 2 | 6 | CPU | 0.5 |"
    assert f"{row} 42 | 60,000 |" in text
    assert "| CLUENet micro |  | 76.55 | not run |" in text
    (tmp_path / "x.json").write_text(json.dumps(results))
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- reproduction: x.json -->\nold\n<!-- end -->\nb\n")
    monkeypatch.setattr(sys, "argv", ["fill_tables.py", str(tmp_path), str(page)])
    script = toy.TOOLS / "analysis/fill_tables.py"
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    start, end = "<!-- reproduction: x.json -->\n", "<!-- end -->"
    assert page.read_text() == f"a\n{start}{text}{end}\nb\n"
