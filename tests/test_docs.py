"""Links lead somewhere, examples run, quoted errors exist, the site builds."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import dense_data
import pytest
import torch
from mmengine.config import Config

from cluenet_mm.config import read_config
from cluenet_mm.inference import build_model

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/**/*.md", "configs/*/README.md")
    for path in ROOT.glob(pattern)
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SITE_TOOLS = ("mkdocs", "mkdocstrings_handlers.python")


def anchors(path):
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s", "-", heading.strip()) for heading in plain}


def broken_links(page):
    """Links of a page, without those to the web, whose file or heading is missing."""
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        inside = target.resolve().is_relative_to(ROOT.resolve())
        found = inside and target.exists()
        if not found or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert list(broken_links(ROOT / page)) == []


def test_broken_links_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two\n\n[a](#one-two) [b](#three) [c](other.md) [d](https://x.org/#y)\n"
        "[e](page.md#one-two) [f](..)\n\n```\n# three\n[g](h)\n```\n"
    )
    assert list(broken_links(page)) == ["#three", "other.md", ".."]


def test_every_page_can_be_found():
    linked = {
        ((ROOT / page).parent / link.split("#")[0]).resolve()
        for page in ("README.md", "docs/index.md")
        for link in LINK.findall((ROOT / page).read_text())
        if not re.match(r"[a-z]+:", link)
    }
    assert {(ROOT / page).resolve() for page in PAGES if page != "README.md"} <= linked


# ---- examples -----------------------------------------------------------------------


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """The folders that docs/new_task.md assumes, with the configs of the page."""
    page = (ROOT / "docs/new_task.md").read_text()
    for name in ("my_shapes.py", "my_maps.py"):
        example = rf"^```python\n(# {re.escape(name)}\n.*?)^```"
        (code,) = re.findall(example, page, re.MULTILINE | re.DOTALL)
        (tmp_path / name).write_text(code)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    data = dense_data.write(tmp_path / "data" / "shapes")
    for split in ("train", "val"):
        shutil.copy(data / "coco.json", data / f"{split}.json")
        for folder, suffix in (("images", ".jpg"), ("annotations", ".png")):
            target = tmp_path / "data" / "maps" / folder / split
            target.mkdir(parents=True)
            source = data / {"images": "images", "annotations": "maps"}[folder]
            for path in source.iterdir():
                name = path.name.split(".")[0] + suffix
                shutil.copy(path, target / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_a_new_task_is_as_short_as_it_says(shapes):
    lines = (shapes / "my_shapes.py").read_text().splitlines()
    assert len([line for line in lines if line and line[0] != "#"]) <= 20
    cfg = Config.fromfile(shapes / "my_shapes.py")
    assert cfg.train_dataloader.dataset.metainfo.classes == dense_data.CLASSES
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16


def test_the_example_of_a_new_task_trains(shapes):
    status, printed = dense_data.run_tool("check_dataset.py", "my_shapes.py")
    assert (status, "rectangle" in printed) == (0, True), printed
    small = "(96, 64)"  # the pages' images have 1333 x 800
    status, printed = dense_data.run_tool(
        "train.py",
        "my_shapes.py",
        "--auto-scale-lr",
        "--cfg-options",
        "train_cfg.max_epochs=1",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.save_best=None",
        "default_hooks.checkpoint.save_optimizer=False",
        # Fewer and narrower, so that two steps take seconds.
        "model.roi_head.bbox_head.fc_out_channels=64",
        "model.train_cfg.rpn_proposal.max_per_img=40",
        "model.train_cfg.rcnn.sampler.num=16",
        "model.test_cfg.rpn.max_per_img=20",
        *(
            f"{split}_dataloader.{key}"
            for split, place in (("train", 2), ("val", 1), ("test", 1))
            for key in (
                "num_workers=0",
                "persistent_workers=False",
                f"dataset.pipeline.{place}.scale={small}",
            )
        ),
    )
    assert status in (0, None), printed
    (log,) = shapes.glob("work_dirs/my_shapes/*/vis_data/scalars.json")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(step["loss"] > 0 for step in steps if "loss" in step)
    assert "coco/segm_mAP" in steps[-1]
    assert (shapes / "work_dirs/my_shapes/epoch_1.pth").is_file()


def test_the_example_of_label_maps_trains(shapes):
    """Labels 0 to 2 are trained and judged, and 255 is not."""
    status, printed = dense_data.run_tool("check_dataset.py", "my_maps.py")
    assert (status, "rectangle" in printed) == (0, True), printed
    loaders = ("train", "val", "test")
    status, printed = dense_data.run_tool(
        "train.py",
        "my_maps.py",
        "--cfg-options",
        "train_cfg.max_iters=1",
        "train_cfg.val_interval=1",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.interval=1",
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.pipeline.2.scale=(96, 64)",
        "train_dataloader.dataset.pipeline.3.crop_size=(64, 64)",
        "model.data_preprocessor.size=(64, 64)",
        *(f"{name}_dataloader.num_workers=0" for name in loaders),
        *(f"{name}_dataloader.persistent_workers=False" for name in loaders),
    )
    assert status in (0, None), printed
    (log,) = shapes.glob("work_dirs/my_maps/*/vis_data/scalars.json")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert steps[0]["loss"] > 0
    assert "mIoU" in steps[-1]


def test_the_example_of_native_segmentation_is_a_segmentor(tmp_path):
    page = (ROOT / "docs/native_segmentation.md").read_text()
    (code,) = re.findall(r"^```python\n(_base_ = .*?)^```", page, re.M | re.S)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "native.py").write_text(code)
    model = build_model(read_config(str(tmp_path / "native.py"))).eval()
    assert model(torch.randn(1, 3, 64, 96)).shape[:2] == (1, 2)


# ---- what the pages quote -----------------------------------------------------------


def test_the_quoted_errors_exist():
    """docs/troubleshooting.md: `...` stands for what an error fills in."""
    sources = [*ROOT.glob("cluenet_mm/**/*.py"), *ROOT.glob("tools/*.py")]
    joined = "\n".join(
        re.sub(r'"\s*\n?\s*f?"', "", path.read_text()) for path in sources
    )
    page = (ROOT / "docs/troubleshooting.md").read_text()
    table = page.split("## Errors of this project")[1].split("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(quoted) > 10
    for message in quoted:
        pattern = r".*".join(map(re.escape, message.split("...")))
        assert re.search(pattern, joined), message


# ---- the site -----------------------------------------------------------------------


def missing_site_tools():
    return [name for name in SITE_TOOLS if not find_spec(name.split(".")[0])]


@pytest.mark.skipif(
    bool(missing_site_tools()),
    reason="no MkDocs with mkdocstrings: pip install -r requirements/optional.txt",
)
def test_the_site_builds_without_warnings(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    for page in PAGES:
        name = re.sub(r"README\.md$", "index.md", page).removesuffix(".md")
        assert (tmp_path / f"{name}.html").is_file(), page
    deviations = (tmp_path / "docs/deviations.html").read_text()
    assert "saturating sigmoid" in deviations  # from a module's docstring
    for package in ("ops", "interpret"):
        reference = (tmp_path / f"docs/api/{package}.html").read_text()
        shown = set(re.findall(r'id="cluenet_mm\.[\w.]*\.(\w+)"', reference))
        exported = set(import_module(f"cluenet_mm.{package}").__all__)
        assert {name for name in exported if not name.isupper()} <= shown
    results = (tmp_path / "docs/results.html").read_text()
    assert 'href="results"' not in results  # a folder, which the site has not
