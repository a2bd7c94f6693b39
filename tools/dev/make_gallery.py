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
from PIL import Image
from skimage import data
from torch import nn

from cluenet_mm import tool_path
from cluenet_mm.config import read_config
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model, initialize
from cluenet_mm.inference.images import resize_shorter_side
from cluenet_mm.interpret import cluster_figure, to_input, trace
from cluenet_mm.interpret.figures import render

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
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.concatenate(rows))
    picture.save(path, quality=JPEG_QUALITY, optimize=True)


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
    report = ""
    if screenshot(args.size, pictures / "report.jpg"):
        report = REPORT.format(picture="images/gallery/report.jpg")
    text = PAGE.format(size=args.size, photos=photos.rstrip("\n"), report=report)
    write_text(args.docs / "gallery.md", text.rstrip("\n") + "\n")
    total = sum(path.stat().st_size for path in pictures.iterdir())
    print(f"{args.docs / 'gallery.md'}: {total / 1e3:.0f} kB of pictures")


if __name__ == "__main__":
    run_tool(main)
