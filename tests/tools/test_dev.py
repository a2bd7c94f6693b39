"""What maintainers run: CIFAR-100 in memory, its reproduction, tables and plots."""

import json

import collect_runs
import docs_tables
import native_cells
import numpy as np
import plots
import pytest
import reproduce_cifar100
import torch
import toy
from PIL import Image

from cluenet_mm.backbones import ContextCluster
from cluenet_mm.datasets import TensorImages

CLASSES = ["apple", "bear", "camel"]
TRAIN = "dev/reproduce_cifar100.py"


def make_images(count, seed):
    """Noise in a color for each class, all images of a class together."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), count)
    images = rng.integers(0, 120, (len(labels), 32, 32, 3))
    images[np.arange(len(labels)), ..., labels] += 100
    return images.astype(np.uint8), labels


SPLITS = {"train": make_images(18, 0), "test": make_images(5, 1)}


def write_strips(folder):
    for split, (images, labels) in SPLITS.items():
        (folder / split).mkdir(parents=True)
        for label, name in enumerate(CLASSES):
            strip = images[labels == label].reshape(-1, 32, 3)
            path = folder / split / f"{label}_{name}.webp"
            Image.fromarray(strip).save(path, lossless=True)
    return folder


def write_folder(folder):
    for split, (images, labels) in SPLITS.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / CLASSES[label] / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


@pytest.mark.parametrize("write", [write_strips, write_folder])
def test_images_become_arrays(write, tmp_path):
    source = write(tmp_path / "source")
    words = (source, "--out", "all", "--classes", 2)
    assert "36 images of 2 classes" in toy.run(tmp_path, "dev/cifar100_npz.py", *words)
    for split, (images, labels) in SPLITS.items():
        dataset = TensorImages(str(tmp_path / "all" / f"{split}.npz"))
        assert dataset.metainfo["classes"] == ("apple", "bear")
        kept = labels < 2
        assert (dataset.images.numpy() == images[kept].transpose(0, 3, 1, 2)).all()
        assert (dataset.labels.numpy() == labels[kept]).all()


def test_a_wrong_source_is_named(tmp_path):
    source = write_strips(tmp_path / "source")
    Image.new("RGB", (32, 40)).save(source / "test" / "1_bear.webp")
    words = ("dev/cifar100_npz.py", source)
    output = toy.run(tmp_path, *words, status=1)
    assert "1_bear.webp: it is 32 x 40, not 32 wide and a multiple of 32 high" in output
    (source / "train" / "1_bear.webp").unlink()
    output = toy.run(tmp_path, *words, status=1)
    assert output.endswith("2_camel.webp: expected label 1.\n")


# --- reproduction ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_strips(folder / "strips")
    words = (folder / "strips", "--out", folder / "arrays")
    toy.run(folder, "dev/cifar100_npz.py", *words)
    return folder / "arrays"


def words(data, *more):
    fixed = ("--data", data, "--out", "runs", "--json", "r.json")
    fixed += ("--configs", "coc/cls_cifar100_memory", "--options")
    fixed += ("train_cfg.max_epochs=2", "train_dataloader.batch_size=16")
    return (TRAIN, *fixed, "default_hooks.logger.interval=1", *more)


def test_an_interrupted_run_goes_on_and_a_finished_one_is_read(data, tmp_path):
    work_dir = tmp_path / "runs/coc_cls_cifar100_memory_seed0"
    process = toy.start(tmp_path, *words(data))
    output = toy.interrupt(process, work_dir, at=5, number=2)
    assert output.endswith("Interrupted; the same command continues\n")
    assert not (tmp_path / "r.json").exists()
    # Saved, but not evaluated: its accuracy must not be left out.
    last = max(reproduce_cifar100.evaluated(work_dir))
    (work_dir / f"epoch_{last + 1}.pth").write_bytes(b"newer")
    toy.run(tmp_path, *words(data))

    (run,) = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert [metric["step"] for metric in run["metrics"]] == [1, 2]
    assert [step for step, _ in run["loss"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (run["backbone"], run["seed"]) == ("ContextCluster", 0)
    assert run["config"] == "coc/cls_cifar100_memory"
    assert run["parameters"] > 2e6

    # A run that is finished is only read; other options need another file.
    before = sorted(work_dir.rglob("*"))
    toy.run(tmp_path, *words(data))
    assert sorted(work_dir.rglob("*")) == before
    output = toy.run(tmp_path, *words(data, "x=1"), status=1)
    assert "options.json is of runs with other options" in output


# --- runs and tables ------------------------------------------------------------------


@pytest.fixture
def work_dir(tmp_path):
    """A run of three epochs that was interrupted in the last one and resumed."""
    folder = tmp_path / "run"
    (folder / "1/vis_data").mkdir(parents=True)
    (folder / "2/vis_data").mkdir(parents=True)
    (folder / "cls_digits.py").write_text("")
    for start in "12":
        config = folder / start / "vis_data/config.py"
        config.write_text(
            "model = dict(backbone=dict(type='cluenet_mm.FEC'))\n"
            "train_cfg = dict(by_epoch=True)\nrandomness = dict(seed=3)\n"
        )
        log = folder / start / f"{start}.log"
        gpus = {"1": "GPU 0", "2": "GPU 0,1"}[start]  # MMEngine names equal ones once
        log.write_text(f"    {gpus}: Some GPU\n    PyTorch: 2.0\n")

    def write(start, *records):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / start / "vis_data/scalars.json").write_text(lines)

    def loss(step, value):
        return {"lr": 0.1, "loss": value, "time": 2.0, "epoch": 1, "step": step}

    def top1(epoch, value):
        return {"accuracy/top1": value, "data_time": 0.1, "time": 0.2, "step": epoch}

    write("1", loss(10, 3.0), top1(1, 50), loss(20, 2.0), top1(2, 60), loss(25, 9.0))
    write("2", loss(25, 1.5), loss(30, 1.0), top1(3, 70.00001))
    return folder


def test_a_resumed_run_is_read_as_one(work_dir):
    run = collect_runs.read_run(work_dir)
    assert run["loss"] == [(10, 3.0), (20, 2.0), (25, 1.5), (30, 1.0)]
    assert [m["accuracy/top1"] for m in run["metrics"]] == [50, 60, 70]
    assert run["hours"] == pytest.approx(30 * 2.0 / 3600, abs=1e-4)
    expected = {"config": "cls_digits", "backbone": "FEC", "seed": 3}
    expected |= {"device": "Some GPU", "pytorch": "2.0", "length": "3 epochs"}
    assert {key: run[key] for key in expected} == expected


def test_folders_without_a_result_are_named(work_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="none: it has no"):
        collect_runs.read_run(tmp_path / "none")
    for start in "12":
        (work_dir / start / "vis_data/scalars.json").write_text("")
    with pytest.raises(ValueError, match="never evaluated yet"):
        collect_runs.read_run(work_dir)


def fill(page, folder):
    return docs_tables.fill(page, folder)[0]


def test_a_missing_file_is_refused_unless_it_is_pending(tmp_path):
    page = "a\n<!-- runs: gone.json -->\nold\n<!-- end -->\nb\n"
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        fill(page, tmp_path)
    page = page.replace("<!-- ", "<!-- pending ", 1)
    assert fill(page, tmp_path) == page
    run = {"config": "x", "backbone": "FEC", "length": "2 epochs", "device": "CPU"}
    runs = [{**run, "metrics": [{"mIoU": value}]} for value in (60.0, 62.0)]
    (tmp_path / "gone.json").write_text(json.dumps({"runs": runs}))
    assert fill(page, tmp_path) == (
        "a\n<!-- runs: gone.json -->\n"
        "| config | backbone | seeds | length | device | mIoU |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| `x` | FEC | 2 | 2 epochs | CPU | 61 (60 to 62) |\n<!-- end -->\nb\n"
    )


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"cases": []}', '{"runs": [{"config": 1}]}']
)
def test_other_results_are_refused(content, tmp_path):
    (tmp_path / "r.json").write_text(content)
    for kind in docs_tables.TABLES:
        with pytest.raises(ValueError, match=r"cannot use .*r\.json"):
            fill(f"<!-- {kind}: r.json -->\n<!-- end -->", tmp_path)


def case(label, mode, speed, **more):
    cost = {"macs_per_image": 1e9, "macs_per_second": speed * 1e9, "parameters": 5e6}
    found = {"images_per_second": speed, "images_per_second_range": [speed - 1, speed]}
    found |= {"peak_memory_mib": 97.2, "impl": "auto", "shape": [224, 224], "batch": 8}
    return {"label": label, "mode": mode, **found, **cost, **more}


def test_a_case_that_failed_keeps_its_row(tmp_path):
    cases = [case("A", "infer", 40), case("A", "train", 10), case("B", "infer", 20)]
    failed = {key: cases[0][key] for key in ("shape", "batch", "impl")}
    failed |= {"label": "B", "mode": "train", "error": "out of memory: 9 | 1"}
    cases.append(failed)
    results = {"settings": {"seconds": 2}, "versions": {"torch": "2"}, "cases": cases}
    (tmp_path / "r.json").write_text(json.dumps(results))
    lines = fill("<!-- results: r.json -->\n<!-- end -->", tmp_path).splitlines()
    assert lines[-2] == "| train | 224x224 | 8 | B | out of memory: 9 / 1 |  |  |"
    page = fill("<!-- families: r.json f.png -->\n<!-- end -->", tmp_path)
    assert "](f.png)\n" in page
    row = "| B | 5 | 1 | 20 (19 to 20) | 97.2 | 20 | out of memory: 9 / 1 |  |  |"
    assert page.splitlines()[-2] == row
    cases.append(cases[0])
    (tmp_path / "r.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="A was measured twice"):
        fill("<!-- families: r.json -->\n<!-- end -->", tmp_path)


def test_heads_are_compared_with_the_first(tmp_path):
    def model(config, neck, head):
        sizes = {"backbone.embed": 7, "neck": neck, "decode_head": head}
        parts = [
            {"name": name, "parameters": size, "executed": 1e6 * size}
            for name, size in sizes.items()
        ]
        return {"config": config, "shape": [9, 8], "parameters": 99, "parts": parts}

    models = [model("a/x.py", 150, 50), model("b/y.py", 0, 2)]
    (tmp_path / "r.json").write_text(json.dumps({"models": models}))
    lines = fill("<!-- heads: r.json -->\n<!-- end -->", tmp_path).splitlines()
    assert lines[-3] == "| `x.py` | 9x8 | 200 (100 %) | 200 (100 %) | 99 |"
    assert lines[-2] == "| `y.py` | 9x8 | 2 (1 %) | 2 (1 %) | 99 |"


def test_cells_of_a_network_are_measured_beside_squares(tmp_path):
    config = "cluenet/native_digits"
    words = ["--data", config, "--images", 1, "--side", 64, "--json", "c.json"]
    toy.run(tmp_path, "dev/native_cells.py", f"one={config}", *words)
    rows = json.loads((tmp_path / "c.json").read_text())["cells"]
    assert [row["stage"] for row in rows] == [2, 3, 4]
    for row, most in zip(rows, (64, 16, 4), strict=True):
        assert 1 <= row["cells"] <= most
        assert 0 < row["near"] <= 1
    (line,) = fill("<!-- cells: c.json -->\n<!-- end -->", tmp_path).splitlines()[-2:-1]
    assert line.startswith("| one | 4 | ")
    maps = native_cells.trace(
        ContextCluster("tiny", out_indices=(0, 1, 2, 3)).eval(),
        torch.rand(1, 3, 60, 90),
    )
    for stage in (1, 2, 3):  # what a convolution pools is by place
        assert native_cells.nearness(maps, stage) == 1
        cells = maps.cells(stage, "image")[0].numpy()
        assert (native_cells.by_place(maps, stage) == cells).all()


def test_plots_are_drawn(tmp_path):
    sizes = [case("A", "infer", 40 / n, shape=[32 * n, 32]) for n in (1, 2)]
    plots.scaling({"cases": sizes}, "infer").savefig(tmp_path / "a.png")
    cases = [case("A", "infer", 40), case("B", "train", 10, impl=None)]
    plots.families({"cases": cases}, "infer").savefig(tmp_path / "b.png")
    metrics = [{"step": i, "accuracy/top1": 10.0 * i} for i in (1, 2)]
    run = {"config": "a", "backbone": "B", "metrics": metrics}
    axis = plots.accuracy({"runs": [run]}).axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[1, 10], [2, 20]]
    for name in ("a.png", "b.png"):
        assert len(np.unique(np.asarray(Image.open(tmp_path / name)))) > 10
