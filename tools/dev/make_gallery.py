r"""Make docs/gallery.md and its pictures.

Photographs are those that scikit-image bundles and whose license lets a repository
hold them. Beside the published network stands the same network before its training.
With Playwright and an installed Chromium, a screenshot of the HTML report is made as
well.

Example:
    python tools/dev/make_gallery.py
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from skimage import data
from torch import nn

from cluenet_mm import tool_path
from cluenet_mm.config import read_config
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model, initialize
from cluenet_mm.inference.images import resize_shorter_side
from cluenet_mm.interpret import cluster_figure, merge_tree, to_input, trace
from cluenet_mm.interpret.figures import cluster_panel, feature_colors, render

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONFIG, CHECKPOINT = "cluenet/cls_cifar100", "cluenet_mm://cluenet_micro_cifar100"
# Name in skimage.data; what it shows, and its license as skimage.data says.
PHOTOS = {
    "chelsea": ("A cat", "CC0, Stéfan van der Walt"),
    "coffee": (
        "A cup of coffee",
        "CC0, Rachel Michetti, courtesy of Pikolo Espresso Bar",
    ),
    "rocket": ("A rocket", "public domain, SpaceX"),
    "astronaut": ("An astronaut", "public domain, NASA"),
}
SEGMENTED = ("coffee", "astronaut")
SEGMENTS = (4, 8, 16, 32)
CENTERS = (2, 4, 8, 16)  # along one side of the grid of the second stage
CENTERED = "coffee"
REPORTED = ("chelsea", "rocket")
DPI = 90
JPEG_QUALITY = 85
WINDOW = {"width": 1360, "height": 900}
# Where the screenshot points, as a part of width and height: an eye of the cat.
POINTED_AT = (0.4, 0.36)
STAGE, HEAD = 1, 1  # counted from 1

PAGE = """\
# Gallery

Clusters of the published CLUENet `micro_cifar`, trained on CIFAR-100
(`cluenet_mm://cluenet_micro_cifar100`, see [results.md](results.md)), and of the same
network before training. Every row is one forward pass; the columns show the first head
of each stage. Colors follow the features of the centers: within a map, similar centers
have similar colors. Light lines separate clusters. `tools/dev/make_gallery.py` draws
this page; [interpretability.md](interpretability.md) explains how to draw your own.

## Photographs

The first row is trained, the second untrained. The photographs have {size} pixels on
their shorter side, the network learned from images of 32 x 32, and most show nothing
that it has a class for, so these are not examples of recognition.

Even the untrained network divides the photographs along outlines, because the
architecture groups similar points. Training changes what counts as similar. The first
stage keeps to colors and surfaces; the clusters of later stages, traced back to the
pixels, become fragmented in textured areas.

{photos}

## Segments

`merge_tree(maps, image=photo)` merges the points that the maps of all stages and the
colors describe alike, to as many connected segments as you ask for. Again the first row
is trained, the second untrained.

{segments}

## Centers

The published weights with numbers of centers (`cluster_grids`) that they were not
trained with, except for 4 x 4. Top: a head of the second stage. Bottom: {count}
segments. More centers make smaller clusters, but these do not follow small objects
([advice](interpretability.md#small-objects)).

![Clusters and segments with more and more centers](images/gallery/centers.jpg)
{report}"""

REPORT = """
## The report

`tools/visualize/explore.py` writes one HTML file that works offline. Here the pointer
is on an eye of the cat: every stage and head of both networks, trained (A) and
untrained (B), highlights the cluster of that pixel in the colors of the photograph.
`make quickstart` writes such a report of the model that it trains.

![The report in a browser]({picture})
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=64, help="shorter side of photographs (default: 64)"
    )
    parser.add_argument(
        "--docs", type=Path, default=DOCS, help="where gallery.md goes (default: docs)"
    )
    return parser.parse_args()


def photograph(name: str, size: int) -> np.ndarray:
    """A bundled photograph, ``(H, W, 3)`` uint8, RGB."""
    return resize_shorter_side(getattr(data, name)(), size)


def draw(models: list[nn.Module], image: np.ndarray, path: Path) -> None:
    """Clusters of all stages as a JPEG, a row a model."""
    rows = [
        render(cluster_figure(image, trace(model, to_input(model, image))), DPI)
        for model in models
    ]
    save(np.concatenate(rows), path)


def save(pixels: np.ndarray, path: Path) -> None:
    """Write a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=JPEG_QUALITY, optimize=True)


def sheet(rows: list[list[tuple[str, np.ndarray]]], path: Path) -> None:
    """Pictures with titles as a JPEG."""
    height, width = rows[0][0][1].shape[:2]
    side = 2.2
    figure = Figure(
        figsize=(side * len(rows[0]), (side * height / width + 0.3) * len(rows)),
        layout="constrained",
    )
    panels = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    cells = (cell for row in rows for cell in row)
    for axis, (title, picture) in zip(panels.flat, cells, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    save(render(figure, DPI), path)


def enlarged(image: np.ndarray) -> np.ndarray:
    """The image four times as large, for thin lines between segments."""
    return np.kron(image, np.ones((4, 4, 1), np.uint8))


def draw_segments(models: list[nn.Module], image: np.ndarray, path: Path) -> None:
    """Segments of all stages and colors, a row a model."""
    rows, photo = [], enlarged(image)
    for model in models:
        tree = merge_tree(trace(model, to_input(model, image)), image=image)
        panels = [
            (f"{k} segments", cluster_panel(photo, tree.cut(k).numpy()))
            for k in SEGMENTS
        ]
        rows.append([("input", photo), *panels])
    sheet(rows, path)


def draw_centers(image: np.ndarray, path: Path) -> None:
    """Clusters and segments of the same weights with few and with many centers."""
    clusters, segments, photo = [], [], enlarged(image)
    for grid in CENTERS:
        cfg = read_config(CONFIG, {"model.backbone.cluster_grids": grid})
        model = build_model(cfg, CHECKPOINT)
        maps = trace(model, to_input(model, image))
        index = maps.clusters(1, 0, "image")[0, 0].numpy()
        colors = feature_colors(maps.blocks[1][0].centers[0, 0], index)
        panel = cluster_panel(photo, index, colors=colors)
        clusters.append((f"{grid} x {grid} centers", panel))
        cut = merge_tree(maps, image=image).cut(SEGMENTS[-1]).numpy()
        segments.append((f"{SEGMENTS[-1]} segments", cluster_panel(photo, cut)))
    sheet([clusters, segments], path)


def screenshot(size: int, path: Path) -> bool:
    """The report in a browser; False where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return False
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return False
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        photos = [Path(folder, f"{name}.png") for name in REPORTED]
        for photo in photos:
            Image.fromarray(photograph(photo.stem, size)).save(photo)
        report = Path(folder, "report.html")
        command = [sys.executable, tool_path("visualize/explore.py"), *photos, CONFIG]
        command += [CHECKPOINT, "--beside", CONFIG, "untrained", "--out", report]
        command += ["--size", str(size)]
        subprocess.run(command, check=True)
        chromium = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport=WINDOW)
        page.goto(report.as_uri())
        page.wait_for_selector("main[aria-busy=false]")
        page.get_by_label(f"Stage {STAGE}, head {HEAD}").first.click()
        box = page.locator("#photo").bounding_box()
        page.mouse.move(
            box["x"] + POINTED_AT[0] * box["width"],
            box["y"] + POINTED_AT[1] * box["height"],
        )
        page.wait_for_selector("#views.pointed")
        page.screenshot(path=path, type="jpeg", quality=JPEG_QUALITY)
        chromium.close()
    return True


def main() -> None:
    """Run the command line."""
    args = parse_args()
    pictures = args.docs / "images" / "gallery"
    cfg = read_config(CONFIG)
    torch.manual_seed(0)
    untrained = build_model(cfg)
    initialize(untrained)
    models = [build_model(cfg, CHECKPOINT), untrained]
    photos = ""
    for name, (what, license) in PHOTOS.items():
        draw(models, photograph(name, args.size), pictures / f"{name}.jpg")
        photos += f"![{what} and its clusters](images/gallery/{name}.jpg)\n"
        photos += f"*{what} (`skimage.data.{name}`; {license}).*\n\n"
    segments = ""
    for name in SEGMENTED:
        path = pictures / f"{name}_segments.jpg"
        draw_segments(models, photograph(name, args.size), path)
        segments += f"![{PHOTOS[name][0]} in segments](images/gallery/{path.name})\n\n"
    draw_centers(photograph(CENTERED, args.size), pictures / "centers.jpg")
    report = ""
    if screenshot(args.size, pictures / "report.jpg"):
        report = REPORT.format(picture="images/gallery/report.jpg")
    text = PAGE.format(
        size=args.size,
        photos=photos.rstrip("\n"),
        segments=segments.rstrip("\n"),
        count=SEGMENTS[-1],
        report=report,
    )
    write_text(args.docs / "gallery.md", text.rstrip("\n") + "\n")
    total = sum(path.stat().st_size for path in pictures.iterdir())
    print(f"{args.docs / 'gallery.md'}: {total / 1e3:.0f} kB of pictures")


if __name__ == "__main__":
    run_tool(main)
