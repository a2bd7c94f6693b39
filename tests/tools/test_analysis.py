"""Counting and measuring: tools/analysis and what it stands on."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from mmengine.config import Config
from toy import TOOLS, run

from cluenet_mm.analysis.compare import Side, measure
from cluenet_mm.analysis.macs import count_config, total
from cluenet_mm.analysis.measure import Bench, Job, Settings, Worker, WorkerError
from cluenet_mm.analysis.models import image_shape, open_config

CONFIG = "cluenet/cls_digits"
SETTINGS = Settings(device="cpu", threads=1)


def call(script: str, *words: object, monkeypatch) -> int | str | None:
    """Run a script in this process and return its exit status or message."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    with pytest.raises(SystemExit) as ending:
        runpy.run_path(str(TOOLS / "analysis" / script), run_name="__main__")
    return ending.value.code


@pytest.mark.parametrize(
    ("config", "side", "parameters", "gmacs"),
    [
        ("cluenet/cls_cifar100", 32, 3_016_788, 0.187),
        ("cluenet/cls_mini_imagenet_micro", 224, 3_017_908, 0.654),
        ("cluenet/cls_mini_imagenet_tiny", 224, 5_680_430, 1.344),
        ("cluenet/cls_mini_imagenet_small", 224, 15_048_840, 3.193),
        ("cluenet/cls_mini_imagenet_base", 224, 30_198_452, 6.523),
        ("fec/cls_imagenet_small", 224, 5_727_528, 1.355),
        ("fec/cls_imagenet_base", 224, 15_086_848, 3.335),
        ("fec/cls_imagenet_large", 224, 29_720_344, 6.478),
    ],
)
def test_macs_are_the_published_ones(config, side, parameters, gmacs):
    cfg = open_config(config)
    assert image_shape(cfg) == (side, side)
    parts = count_config(cfg, image_shape(cfg))
    names = [part.name for part in parts]
    pyramid = ["embed", "stages.0", "reducers.0", "stages.1", "reducers.1"]
    pyramid += ["stages.2", "reducers.2", "stages.3", "norm3"]
    assert names == [*(f"backbone.{name}" for name in pyramid), "head"]
    assert total(parts).parameters == parameters
    assert total(parts).published == pytest.approx(gmacs * 1e9, rel=5e-3)


def test_macs_of_parts_that_are_easily_counted_by_hand():
    cfg = open_config("cluenet/cls_mini_imagenet_micro")
    parts = {part.name: part for part in count_config(cfg, (64, 96))}
    points = 16 * 24
    embed = points * (4 * 4 * 5 * 32 + 9 * 32)
    assert parts["backbone.embed"].executed == embed
    # Feature, table, two convolutions of the centres, skip.
    centers = points // 4
    pool = points * 32 * 32 + points * centers * 32
    pool += centers * (32 * 32 + 32 * 64) + centers * 9 * 32 * 64
    assert parts["backbone.reducers.0"].executed == pool
    assert parts["backbone.reducers.0"].published == pool
    assert parts["head"].executed == 256 * 100


def test_macs_of_a_recurrent_clustering():
    cfg = open_config("clusterformer/cls_digits")
    parts = {part.name: part for part in count_config(cfg, (64, 96))}
    points, centers, width = 32 * 48, 16, 32  # one head
    step = centers * width * width + 2 * points * centers * width
    stage = 3 * step + 2 * points * width * width  # key, value
    stage += 2 * centers * width * width  # the initial centres
    stage += (centers + points) * width * width  # dispatching
    stage += points * width * width  # the MLP behind it, half as wide between
    stage += 2 * points * width * 4 * width
    assert parts["backbone.stages.0"].executed == stage
    assert parts["backbone.stages.0"].published == stage


def test_a_detector_is_counted_up_to_its_neck():
    cfg = open_config("mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py")
    parts = {part.name: part for part in count_config(cfg, (64, 64))}
    assert parts["neck"].executed > 0
    assert parts["bbox_head"].executed == 0 < parts["bbox_head"].parameters


def test_the_image_size_of_a_detector_is_height_then_width():
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (1333, 800)}]
    cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    assert image_shape(cfg) == (800, 1333)


def test_the_benchmark_measures_both_sides(tmp_path):
    output = run(
        tmp_path,
        *("analysis/benchmark.py", CONFIG, "--impl", "naive", "--vs", "chunked"),
        *("--shape", 96, 80, "--batch", 2, "--mode", "train"),
        *("--threads", 1, "--rounds", 3, "--processes", 2, "--json", "out/result.json"),
    )
    results = json.loads((tmp_path / "out/result.json").read_text())
    assert os.listdir(tmp_path / "out") == ["result.json"]
    assert results["threads"] == 1
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert results["device"] in output
    cases = results["cases"]
    assert [case["impl"] for case in cases] == ["naive", "chunked"]
    for case in cases:
        assert (case["mode"], case["shape"], case["batch"]) == ("train", [96, 80], 2)
        low, high = case["images_per_second_range"]
        assert 0 < low <= case["images_per_second"] <= high
        assert [len(rounds) for rounds in case["rounds"]] == [3, 3]
        medians = [sorted(rounds)[1] for rounds in case["rounds"]]
        assert sorted(medians) == [low, high]
        assert case["peak_memory_mib"] > 0
        macs = case["macs_per_image"] * case["images_per_second"]
        assert case["macs_per_second"] == pytest.approx(macs)
        assert ("ratio" in case) == (case["impl"] == "chunked")
    ratios = [
        sorted(speed / base for speed, base in zip(ours, theirs, strict=True))[1]
        for ours, theirs in zip(cases[1]["rounds"], cases[0]["rounds"], strict=True)
    ]
    ratio = cases[1]["ratio"]
    assert ratio["images_per_second"] == pytest.approx(sum(ratios) / 2)
    assert ratio["images_per_second_range"] == sorted(ratios)


def test_a_backbone_of_another_library_is_measured():
    side = Side.open("mmpretrain::resnet/resnet18_8xb16_cifar10.py")
    assert side.impl is None
    assert side.cost((32, 32)).published == pytest.approx(0.555e9, rel=0.01)
    worker = Worker(Bench, side.job(SETTINGS, "infer", (32, 32)))
    worker.ask("warm_up", 2)
    assert worker.ask("round") > 0
    worker.close()


def test_every_further_config_is_a_side(tmp_path):
    resnet = "mmpretrain::resnet/resnet18_8xb16_cifar10.py"
    run(
        tmp_path,
        *("analysis/benchmark.py", CONFIG, "--vs-config", "fec/cls_digits", resnet),
        *("--shape", 32, 32, "--threads", 1, "--processes", 1, "--json", "r.json"),
    )
    cases = json.loads((tmp_path / "r.json").read_text())["cases"]
    assert [case["label"].split()[0] for case in cases] == [
        "CLUENet",
        "FEC",
        "ResNet_CIFAR",
    ]
    assert cases[2]["label"] == "ResNet_CIFAR 18"
    first, *others = cases
    assert "ratio" not in first
    for case in others:  # both to the first one
        pairs = zip(case["rounds"], first["rounds"], strict=True)
        [ratios] = [sorted(x / y for x, y in zip(*pair, strict=True)) for pair in pairs]
        assert case["ratio"]["images_per_second"] == ratios[2]
        assert case["ratio"]["images_per_second_range"] == [ratios[2]] * 2
    parts = count_config(open_config(resnet), (32, 32))
    head = next(part for part in parts if part.name == "head")
    assert cases[2]["parameters"] == total(parts).parameters - head.parameters


def test_a_backbone_that_refuses_small_maps_is_measured():
    arch = {"embed_dims": 8, "depths": [1] * 4, "num_heads": [1] * 4}
    swin = {"type": "SwinTransformer", "arch": arch, "img_size": 224}
    worker = Worker(Bench, Job(swin, "mmpretrain", None, "infer", (224, 224), SETTINGS))
    worker.ask("warm_up", 1)
    assert worker.ask("round") > 0
    worker.close()


def job(impl: str, side: int, mode: str = "infer") -> Job:
    backbone = open_config("cluenet/cls_mini_imagenet_micro").model.backbone.to_dict()
    return Job(backbone, "mmpretrain", impl, mode, (side, side), SETTINGS)


def test_peak_memory_sees_the_table_and_what_a_backward_pass_keeps():
    jobs = [job("naive", 384), job("chunked", 384), job("chunked", 384, "train")]
    workers = [Worker(Bench, each) for each in jobs]
    naive, chunked, train = (worker.ask("peak_memory", 1) for worker in workers)
    points = 96 * 96
    table = points * (points // 4) * 4 / 2**20  # 81 MiB
    assert naive > table
    assert naive - chunked > 0.5 * table
    assert train > chunked + 3.0e6 * 4 / 2**20  # the gradients at least

    os.kill(workers[0].process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="killed by signal 9"):
        workers[0].ask("peak_memory", 1)
    for worker in workers:
        worker.close()
        assert not worker.process.is_alive()


def test_a_side_without_memory_leaves_the_other_one():
    sides = [Side.open("cluenet/cls_mini_imagenet_micro", i) for i in ("naive", "auto")]
    settings = Settings(
        device="cpu", threads=1, rounds=1, processes=2, memory_limit=150
    )
    (naive, auto), machine = measure(sides, "infer", (448, 448), 1, settings)
    assert naive["error"].startswith("out of memory: ")
    assert "\n" not in naive["error"]
    assert "images_per_second" not in naive
    assert auto["images_per_second"] > 0
    assert "ratio" not in auto
    assert machine["threads"] == 1


@pytest.mark.parametrize("script", ["benchmark.py", "get_flops.py"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("cluenet/cls_digit", "no config is named 'cluenet/cls_digit'"),
        ("mmpretrain::nothing/here.py", "mmpretrain has no config nothing/here.py"),
        ("nobody::resnet.py", "the libraries are mmpretrain::"),
        ("_base_/datasets/digits", "describes no model with a backbone"),
    ],
)
def test_a_wrong_config_is_one_line(script, config, message, monkeypatch):
    ending = call(script, config, monkeypatch=monkeypatch)
    assert ending.startswith("error: ")
    assert message in ending
    assert "\n" not in ending


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([CONFIG, "--vs", "dense"], "unknown impl 'dense'; choose from auto, naive"),
        (
            ["mmpretrain::resnet/resnet18_8xb16_cifar10.py", "--impl", "naive"],
            "has no impl to choose",
        ),
    ],
)
def test_a_wrong_impl_is_one_line(words, message, monkeypatch):
    ending = call("benchmark.py", *words, monkeypatch=monkeypatch)
    assert message in ending
    assert "\n" not in ending


def write_results(path: Path, sides: tuple[int, ...] = (32, 64)) -> None:
    cases = [
        {
            "config": CONFIG,
            "label": f"CLUENet {impl}",
            "impl": impl,
            "mode": "infer",
            "shape": [side, side],
            "batch": 2,
            "peak_memory_mib": 8.0 * side,
            "images_per_second": 1e6 / side,
            "images_per_second_range": [9e5 / side, 1.1e6 / side],
            "macs_per_second": 5e9,
        }
        for impl in ("naive", "auto")
        for side in sides
    ]
    cases[-1]["ratio"] = {"images_per_second": 8.25, "peak_memory_mib": 0.125}
    failed = {k: cases[0][k] for k in ("label", "mode", "batch")}
    cases.append({**failed, "shape": [96, 96], "error": "out of memory: 9 | 1"})
    results = {"device": "a CPU", "threads": 2, "settings": {"rounds": 7, "amp": None}}
    path.write_text(json.dumps({**results, "versions": {"torch": "2"}, "cases": cases}))


def test_the_plot_has_a_line_for_every_side(tmp_path, monkeypatch):
    write_results(tmp_path / "r.json")
    out = tmp_path / "images/scaling.png"
    words = [tmp_path / "r.json", "--out", out]
    assert call("plot_scaling.py", *words, monkeypatch=monkeypatch) is None
    assert out.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(out.parent) == ["scaling.png"]
    script = runpy.run_path(str(TOOLS / "analysis" / "plot_scaling.py"))
    lines, device = script["collect"]([tmp_path / "r.json"], "infer")
    assert device == "a CPU"
    assert lines["CLUENet auto"] == [(1024, 32e-6, 128), (4096, 64e-6, 256)]
    assert set(lines) == {"CLUENet naive", "CLUENet auto"}


def test_the_plot_refuses_what_it_cannot_draw(tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text("[]")
    out = tmp_path / "scaling.png"
    words = [tmp_path / "r.json", "--out", out]
    assert "no results with" in call("plot_scaling.py", *words, monkeypatch=monkeypatch)
    write_results(tmp_path / "r.json", sides=(32,))
    assert "fewer than two" in call("plot_scaling.py", *words, monkeypatch=monkeypatch)
    assert not out.exists()


def write_families(path: Path) -> None:
    sides = [("CLUENet tiny auto", "auto", 1.3), ("ResNet 18", None, 1.8)]
    cases = [
        {
            "label": label,
            "impl": impl,
            "mode": mode,
            "shape": [224, 224],
            "batch": 8,
            "peak_memory_mib": 97.2,
            "images_per_second": speed,
            "images_per_second_range": [speed - 1, speed + 1],
            "parameters": 5_650_000,
            "macs_per_image": gmacs * 1e9,
            "macs_per_second": gmacs * speed * 1e9,
        }
        for mode, speed in (("infer", 40), ("train", 10))
        for label, impl, gmacs in sides
    ]
    kept = ("label", "impl", "mode", "shape", "batch")
    cases[3] = {**{key: cases[3][key] for key in kept}, "error": "out of memory: 9 | 1"}
    results = {"device": "a CPU", "threads": 2, "settings": {"rounds": 7}}
    path.write_text(json.dumps({**results, "versions": {"torch": "2"}, "cases": cases}))


def test_families_fill_a_row_each(tmp_path, monkeypatch):
    write_families(tmp_path / "f.json")
    page = tmp_path / "page.md"
    for picture in ("", " images/f.png"):
        page.write_text(f"<!-- families: f.json{picture} -->\nold\n<!-- end -->\n")
        call("fill_tables.py", tmp_path, page, monkeypatch=monkeypatch)
        lines = page.read_text().splitlines()[1:-1]
        if picture:
            assert lines[:2] == ["![Images per second against MACs](images/f.png)", ""]
            lines = lines[2:]
        settings = "a CPU, 2 threads, PyTorch 2, rounds 7, pixels 224x224, batch 8."
        assert lines[0] == settings
        assert lines[4:] == [
            "| CLUENet tiny auto | 5.65 | 1.3 | 40 (39 to 41) | 97.2 | 52 "
            "| 10 (9 to 11) | 97.2 | 13 |",
            "| ResNet 18 | 5.65 | 1.8 | 40 (39 to 41) | 97.2 | 72 "
            "| out of memory: 9 / 1 |  |  |",
        ]


def test_the_plot_of_families_names_every_point(tmp_path, monkeypatch):
    write_families(tmp_path / "f.json")
    out = tmp_path / "images/families.png"
    words = [tmp_path / "f.json", "--out", out]
    assert call("plot_families.py", *words, monkeypatch=monkeypatch) is None
    assert out.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(out.parent) == ["families.png"]
    script = runpy.run_path(str(TOOLS / "analysis/plot_families.py"))
    panels = script["collect"](json.loads((tmp_path / "f.json").read_text()))
    infer, train = script["draw"](panels, "title").axes
    names = [{text.get_text() for text in axis.texts} for axis in (infer, train)]
    assert {"CLUENet tiny", "ResNet 18", "50 GMACs/s"} <= names[0]
    assert "CLUENet tiny" in names[1]
    assert "ResNet 18" not in names[1]  # it failed
    points = [group.get_offsets().tolist() for group in infer.collections]
    assert points == [[[1.3, 40]], [[1.8, 40]]]


def test_names_of_near_points_do_not_cover_each_other():
    script = runpy.run_path(str(TOOLS / "analysis/plot_families.py"))
    near = {"ConvNeXt": (4.45, 15.3), "Swin": (4.49, 14.4), "ClusterFormer": (4.7, 15)}
    cases = [
        {
            "label": name,
            "impl": None,
            "macs_per_image": gmacs * 1e9,
            "images_per_second": speed,
        }
        for name, (gmacs, speed) in near.items()
    ]
    (axis,) = script["draw"]({"infer": cases}, "title").axes
    texts = [text for text in axis.texts if text.get_text() in near]
    boxes = [script["word_box"](text) for text in texts]
    boxes += [script["mark_box"](axis, point) for point in near.values()]
    assert len(texts) == 3
    for name in range(3):
        for other in range(name + 1, 6):
            assert script["overlap"](boxes[name], boxes[other]) == 0


def test_several_sizes_are_no_comparison_of_families(tmp_path, monkeypatch):
    write_results(tmp_path / "r.json")
    out = tmp_path / "families.png"
    words = [tmp_path / "r.json", "--out", out]
    ending = call("plot_families.py", *words, monkeypatch=monkeypatch)
    assert "CLUENet naive was measured twice with mode infer" in ending
    page = tmp_path / "page.md"
    page.write_text("<!-- families: r.json -->\nold\n<!-- end -->\n")
    ending = call("fill_tables.py", tmp_path, page, monkeypatch=monkeypatch)
    assert "was measured twice" in ending
    assert "old" in page.read_text()
    assert not out.exists()


def benchmarks(*words: str) -> CompletedProcess:
    """Run the script of all measurements with commands that are only printed."""
    script = TOOLS / "analysis/run_benchmarks.sh"
    command = ["bash", str(script), *words]
    environment = {**os.environ, "PYTHON": "echo"}
    return subprocess.run(
        command,
        cwd=TOOLS.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_part_of_the_measurements_runs_by_its_name():
    lines = benchmarks("cpu_families").stdout.splitlines()
    assert [line for line in lines if line.startswith("==")] == ["== cpu_families"]
    words = lines[1].split()
    assert words[-2:] == ["--json", "docs/results/cpu_families.json"]
    configs = [words[1], *words[3 : words.index("--device")]]
    assert len(configs) == 8
    backbones = {Side.open(config).label.split()[0] for config in configs}
    ours = {"CLUENet", "ContextCluster", "FEC", "ClusterFormer"}
    assert backbones == ours | {"ResNet", "PoolFormer", "SwinTransformer", "ConvNeXt"}


def test_every_part_that_the_page_shows_is_measured():
    parts = benchmarks("cpu", "gpu").stdout
    names = {line[3:] for line in parts.splitlines() if line.startswith("== ")}
    page = (TOOLS.parent / "docs/benchmarks.md").read_text()
    shown = set(re.findall(r"<!-- (?:results|families): (\w+)\.json", page))
    assert names - {"cpu_memory"} == shown  # that one is in docs/dense.md


@pytest.mark.parametrize("words", [(), ("cpu_familie",), ("cpu", "none")])
def test_an_unknown_part_is_refused_before_anything_runs(words):
    ending = benchmarks(*words)
    assert ending.returncode == 2
    assert ending.stdout == ""
    assert "cpu_families" in ending.stderr


def test_tables_are_filled_between_their_marks(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    marks = "<!-- results: {} -->\nold\n<!-- end -->\n"
    page.write_text(f"# A\n{marks.format('r.json')}B\n{marks.format('none.json')}C\n")
    write_results(tmp_path / "r.json")
    for _ in range(2):  # the second time finds its own table
        words = [tmp_path, page]
        assert call("fill_tables.py", *words, monkeypatch=monkeypatch) is None
        text = page.read_text()
        assert "a CPU, 2 threads, PyTorch 2, rounds 7." in text
        row = "| infer | 64x64 | 2 | CLUENet auto | 15,625 (14,062 to 17,188) |"
        assert f"{row} 512 | 5 | 8.25 |  | 0.125 |" in text
        assert "| 96x96 | 2 | CLUENet naive | out of memory: 9 / 1 |" in text
        assert (
            "B\n<!-- results: none.json -->\nNot measured yet.\n<!-- end -->\nC" in text
        )
        assert "old" not in text


def test_memory_of_steps_is_filled_in(tmp_path, monkeypatch):
    steps = [
        {"impl": "naive", "peak_memory_mib": 2000.4},
        {"impl": "auto", "peak_memory_mib": 500.1},
        {"impl": "triton", "error": "needs a GPU"},
    ]
    results = {"config": CONFIG, "shape": [800, 1344], "batch": 1, "device": "CPU"}
    results |= {"threads": 2, "amp": False, "torch": "2.1.0+cpu", "steps": steps}
    (tmp_path / "m.json").write_text(json.dumps(results))
    page = tmp_path / "page.md"
    page.write_text("<!-- steps: m.json -->\nold\n<!-- end -->\n")
    words = [tmp_path, page]
    assert call("fill_tables.py", *words, monkeypatch=monkeypatch) is None
    settings = f"`{CONFIG}`, pixels 800x1344, batch 1, float32."
    assert page.read_text().splitlines()[1:-1] == [
        f"CPU, 2 threads, PyTorch 2.1.0, {settings}",
        "",
        "| implementation | memory, MiB | ratio |",
        "| --- | --- | --- |",
        "| `naive` | 2,000 |  |",
        "| `auto` | 500 | 0.25 |",
        "| `triton` | needs a GPU |  |",
    ]


def test_sizes_of_models_are_filled_by_prefix(tmp_path, monkeypatch):
    configs = [CONFIG, "coc/cls_digits"]
    path = tmp_path / "models.json"
    assert (
        call("get_flops.py", *configs, "--json", path, monkeypatch=monkeypatch) is None
    )
    models = json.loads(path.read_text())["models"]
    assert [model["config"] for model in models] == configs
    cfg = open_config(CONFIG)
    counted = total(count_config(cfg, image_shape(cfg)))
    assert models[0]["parameters"] == counted.parameters
    assert models[0]["published"] == counted.published

    page = tmp_path / "page.md"
    page.write_text("A\n<!-- models: models.json coc/ -->\n<!-- end -->\nB\n")
    words = [tmp_path, page]
    assert call("fill_tables.py", *words, monkeypatch=monkeypatch) is None
    lines = page.read_text().splitlines()
    published = f"{models[1]['published'] / 1e6:,.1f}"
    assert lines[4].startswith("| `cls_digits` | 32x32 | 1,110,420 |")
    assert published in lines[4]
    assert lines[5:] == ["<!-- end -->", "B"]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("results", {"cases": [{"label": "a"}]}, "r.json holds no results with a list"),
        ("models", {"models": [{"config": "a"}]}, "r.json holds no results with"),
        ("steps", [], "r.json holds no results with a list of 'steps'"),
        ("reproduction", {"runs": []}, "needs results of tools/reproduce/cifar100.py"),
    ],
)
def test_other_results_than_a_table_needs_are_one_line(
    kind, content, message, tmp_path, monkeypatch
):
    page = tmp_path / "page.md"
    page.write_text(before := f"<!-- {kind}: r.json -->\nold\n<!-- end -->\n")
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert message in call("fill_tables.py", tmp_path, page, monkeypatch=monkeypatch)
    assert page.read_text() == before


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


def test_a_resumed_run_is_read_as_one(work_dir, tmp_path, monkeypatch):
    path = tmp_path / "runs.json"
    words = [work_dir, "--json", path]
    assert call("collect_runs.py", *words, monkeypatch=monkeypatch) is None
    (run,) = json.loads(path.read_text())["runs"]
    assert run["loss"] == [[10, 3.0], [20, 2.0], [25, 1.5], [30, 1.0]]
    assert [m["accuracy/top1"] for m in run["metrics"]] == [50, 60, 70]
    assert run["hours"] == pytest.approx(30 * 2.0 / 3600, abs=1e-4)
    expected = {"config": "cls_digits", "backbone": "FEC", "seed": 3}
    expected |= {"device": "Some GPU", "pytorch": "2.0", "length": "3 epochs"}
    assert {key: run[key] for key in expected} == expected

    page = tmp_path / "page.md"
    page.write_text("<!-- runs: two.json -->\n<!-- end -->\n")
    better = {**run, "metrics": [{"step": 3, "accuracy/top1": 80.0}]}
    (tmp_path / "two.json").write_text(json.dumps({"runs": [run, better]}))
    words = [tmp_path, page]
    assert call("fill_tables.py", *words, monkeypatch=monkeypatch) is None
    row = "| `cls_digits` | FEC | 2 | 3 epochs | Some GPU | 75 (70 to 80) |"
    assert row in page.read_text().splitlines()


def test_folders_without_a_result_are_named(work_dir, tmp_path, monkeypatch):
    words = ["--json", tmp_path / "runs.json"]
    ending = call("collect_runs.py", tmp_path / "none", *words, monkeypatch=monkeypatch)
    assert "none holds no run" in ending
    for start in "12":
        (work_dir / start / "vis_data/scalars.json").write_text("")
    ending = call("collect_runs.py", work_dir, *words, monkeypatch=monkeypatch)
    assert "has not been evaluated yet" in ending
    assert not (tmp_path / "runs.json").exists()


def write_quality(path: Path, config: str) -> None:
    def entry(kind: str, **numbers: float) -> dict:
        return {"stage": 1, "segments": kind, **numbers}

    names = ("accuracy", "undersegmentation", "boundary_recall", "best_iou")
    areas = ("insertion", "deletion", "random_insertion", "random_deletion")
    kinds = list(enumerate(("clusters", "SLIC", "grid"), start=1))
    emergence = [entry(k, count=14.06, **dict.fromkeys(names, i / 8)) for i, k in kinds]
    faith = [entry(k, regions=9.04, **dict.fromkeys(areas, i / 4)) for i, k in kinds]
    content = {
        "config": config,
        "dataset": "coco",
        "emergence": {"rows": emergence, "images": 80},
    }
    if config == "a":
        content["faithfulness"] = {"rows": faith, "images": 60}
    path.write_text(json.dumps(content))


def test_quality_of_clusters_stands_beside_the_baselines(tmp_path, monkeypatch):
    for config in ("a", "b"):
        write_quality(tmp_path / f"{config}.json", config)
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- emergence: a.json,b.json -->\n<!-- end -->\n"
        "<!-- faithfulness: a.json,b.json -->\n<!-- end -->\n"
        "<!-- emergence: a.json,missing.json -->\n<!-- end -->\n"
    )
    words = [tmp_path, page]
    assert call("fill_tables.py", *words, monkeypatch=monkeypatch) is None
    lines = page.read_text().splitlines()
    row = "| `{}` | 80 of coco | 1 | 14.1 |" + " 0.125 (0.250, 0.375) |" * 4
    assert lines[3:5] == [row.format("a"), row.format("b")]
    assert lines[9] == "| `a` | 60 | 1 | 9.0 |" + " 0.250 (0.500, 0.750) |" * 4
    assert lines[10] == "<!-- end -->"
    assert lines[12] == "Not measured yet."
