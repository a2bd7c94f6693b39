r"""Make docs/gallery.md and its pictures.

Photographs are those that scikit-image bundles and whose license lets a repository
hold them; digits are those of the embedded dataset. The models are yours to give,
and the notes should say how far they were trained. With Playwright and an installed
Chromium, a screenshot of the HTML report is made as well.

Example:
    python tools/dev/make_gallery.py --photos CONFIG CHECKPOINT NOTE \
        --digits CONFIG CHECKPOINT NOTE
"""

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image
from skimage import data
from torch import nn

from cluenet_mm import tool_path
from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import fail
from cluenet_mm.config import read_config
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model
from cluenet_mm.interpret import cluster_figure, find_backbone, to_input, trace

DOCS = Path(__file__).resolve().parents[2] / "docs"
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
DIGITS = (0, 37, 148)  # positions in the validation set
HEADS = 2
DPI = 90
JPEG_QUALITY = 85
WINDOW = {"width": 1360, "height": 860}
# Where the screenshot points, as a part of width and height.
POINTED_AT = (0.5, 0.62)

PAGE = """\
# Gallery

What networks of this repository clustered. Made by `tools/dev/make_gallery.py`;
every picture is one forward pass. Columns are stages, rows are the first heads. Colors
follow the centers' features: similar centers have similar colors within a map, not
between maps. Light lines part clusters. How to read and make such pictures:
[interpretability.md](interpretability.md).

## Photographs

*Model:* {photos_model}

The photographs have {size} pixels on their shorter side, more than the images that
the network was trained on, and show nothing that it has a class for: what it would
*predict* means nothing, and these are no examples of recognition. What can be seen is
what it groups without having been told: colors, brightness and places at first,
surfaces and outlines later; texture falls into splinters.

{photos}

## Digits

*Model:* {digits_model}

Validation digits (*Optical Recognition of Handwritten Digits*, UCI, CC BY 4.0, as
bundled by scikit-learn, enlarged to 32 pixels).

{digits}{report}"""

REPORT = """
## The report

`tools/visualize/explore.py` writes one HTML file that needs no network. Here it points
at a stroke of a digit; every stage and head lights the cluster of that pixel, and the
list ranks the clusters by what the prediction loses without them. `make quickstart`
makes such a report of the model that it trains.

![The report in a browser]({picture})
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, what in (("photos", "the photographs"), ("digits", "the digits")):
        parser.add_argument(
            f"--{name}",
            nargs=3,
            required=True,
            metavar=("CONFIG", "CHECKPOINT", "NOTE"),
            help=f"the model for {what}, and how far it was trained",
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
    image = getattr(data, name)()
    scale = size / min(image.shape[:2])
    shape = [round(scale * side) for side in image.shape[1::-1]]
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA)


def draw(model: nn.Module, image: np.ndarray, path: Path) -> None:
    """Clusters of all stages as a JPEG."""
    maps = trace(model, to_input(model, image))
    figure = cluster_figure(image, maps, max_heads=HEADS)
    file = io.BytesIO()
    figure.savefig(file, dpi=DPI, format="png")
    picture = Image.open(file).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=JPEG_QUALITY, optimize=True)


def screenshot(config: str, checkpoint: str, path: Path) -> bool:
    """The report of the digits, in a browser; False where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return False
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return False
    report = path.with_suffix(".html")
    command = [sys.executable, tool_path("visualize/explore.py"), "val", config]
    command += [checkpoint, "--importance", "all", "--out", report]
    subprocess.run(command, check=True)
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport=WINDOW)
        page.goto(report.resolve().as_uri())
        page.wait_for_selector("main[aria-busy=false]")
        page.locator("#film button").nth(1).click()
        page.keyboard.press("ArrowLeft")
        box = page.locator("#main").bounding_box()
        page.mouse.move(
            box["x"] + POINTED_AT[0] * box["width"],
            box["y"] + POINTED_AT[1] * box["height"],
        )
        page.wait_for_selector("#cross:not([hidden])")
        page.screenshot(path=path, type="jpeg", quality=JPEG_QUALITY)
        chromium.close()
    report.unlink()
    return True


def load(config: str, checkpoint: str) -> tuple[Config, nn.Module]:
    """A config and its model with weights."""
    cfg = read_config(config)
    return cfg, build_model(cfg, checkpoint)


def describe(model: nn.Module, note: str) -> str:
    """Family and training of a model."""
    return f"{type(find_backbone(model)).__name__} {note}"


def main() -> None:
    """Run the command line."""
    args = parse_args()
    pictures = args.docs / "images" / "gallery"
    try:
        _, photo_model = load(*args.photos[:2])
        digits_cfg, digits_model = load(*args.digits[:2])
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    photos = ""
    for name, (what, license) in PHOTOS.items():
        draw(photo_model, photograph(name, args.size), pictures / f"{name}.jpg")
        photos += f"![{what} and its clusters](images/gallery/{name}.jpg)\n"
        photos += f"*{what} (`skimage.data.{name}`; {license}).*\n\n"
    dataset = DATASETS.build(digits_cfg.val_dataloader.dataset)
    digits = ""
    for number in DIGITS:
        sample = dataset.get_data_info(number)
        draw(digits_model, sample["img"], pictures / f"digit_{number}.jpg")
        what = f"A handwritten {sample['gt_label']}"
        digits += f"![{what} and its clusters](images/gallery/digit_{number}.jpg)\n\n"
    report = ""
    if screenshot(*args.digits[:2], pictures / "report.jpg"):
        report = REPORT.format(picture="images/gallery/report.jpg")
    text = PAGE.format(
        photos_model=describe(photo_model, args.photos[2]),
        digits_model=describe(digits_model, args.digits[2]),
        size=args.size,
        photos=photos.rstrip("\n"),
        digits=digits.rstrip("\n"),
        report=f"\n{report}",
    )
    write_text(args.docs / "gallery.md", text.rstrip("\n") + "\n")
    total = sum(path.stat().st_size for path in pictures.iterdir())
    print(f"{args.docs / 'gallery.md'}: {total / 1e3:.0f} kB of pictures")


if __name__ == "__main__":
    run_tool(main)
