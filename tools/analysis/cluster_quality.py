"""How well clusters match real objects, and whether importance tells the truth.

Beside the clusters stand those of the same network before training, Ward's method on
colors, Felzenszwalb's segments, SLIC superpixels and a grid of equal count. Definitions
are in cluenet_mm/interpret: quality.py, stability.py, insertion_deletion.py and
pointing.py.
Every mean has the half width of its 95 % confidence interval over images in the JSON,
and most have it here:

* emergence: achievable segmentation accuracy (ASA), under-segmentation error (UE),
  boundary recall (BR), best-match IoU of all and of small objects, normalized mutual
  information (NMI) and adjusted Rand index (ARI) against annotated images, and
  explained variation (EV) of color; each head is one partition, and each number is the
  mean over heads and images;
* segments merged from all stages, at equal numbers, without and with colors;
* stability: adjusted Rand index of the clusters of an image and of the image shifted,
  mirrored and with noise, brought back;
* faithfulness, of classifiers: area under the insertion and deletion curves of the
  ranking by importance for the predicted class (by blanking pixels, and points in the
  network), by Grad-CAM, and of random rankings, on the validation images of the config,
  with the regions of the first head;
* pointing, of classifiers: the grid pointing game of four validation images, on those
  that are classified rightly.

Examples (a config is a path or a name such as cluenet/cls_digits):
  cluster_quality.py CONFIG CHECKPOINT --dataset digits
  cluster_quality.py CONFIG CHECKPOINT --dataset coco --data-root data/coco \
      --images 50 --size 224 --json quality.json

Each table has its number of images; 0 leaves it out.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS as MM_DATASETS
from torch import nn

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import (
    add_cfg_options,
    device,
    fail,
    natural,
    output_file,
    parse_arguments,
    positive,
    side,
)
from cluenet_mm.config import read_config
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model, initialize
from cluenet_mm.interpret.annotated_images import (
    DATASETS,
    AnnotatedImage,
    annotated_images,
)
from cluenet_mm.interpret.measure import (
    measure_emergence,
    measure_faithfulness,
    measure_pointing,
    measure_stability,
)
from cluenet_mm.interpret.pixels import evenly_spaced
from cluenet_mm.interpret.quality import BOUNDARY_TOLERANCE

ROOTS = {
    "digits": "data/digits_scenes",
    "coco": "data/coco",
    "camvid": "data/camvid",
}
EMERGENCE = "{:<6}{:<24}{:>7}{:>14}{:>14}{:>8}{:>14}{:>8}{:>8}{:>8}{:>8}"
# Shown without their intervals.
BRIEF = {"small": "small_iou", "NMI": "nmi", "ARI": "ari", "EV": "explained"}
# Of the other tables: title, names of the numbers and their titles, a remark.
OTHERS = {
    "stability": (
        "Stability: {} annotated images",
        {"shift": "shift", "flip": "flip", "noise": "noise"},
        "Adjusted Rand indices; large is good.",
    ),
    "faithfulness": (
        "Faithfulness: {} validation images of the config",
        {
            "insertion": "insertion",
            "random_insertion": "random",
            "deletion": "deletion",
            "random_deletion": "random",
        },
        "Areas under the curves; large is good, of deletion small.",
    ),
    "pointing": (
        "Grid pointing game: {} grids of four validation images",
        {"share": "heat in class", "hit": "maximum"},
        "Large is good; chance is 0.25.",
    ),
}
# Validation images a grid of four, to choose from.
CANDIDATES = 16


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--data-root", help="its folder (default: data/<its name>)")
    parser.add_argument("--split", choices=["train", "val"], default="val")
    parser.add_argument(
        "--images", type=natural, default=50, help="annotated images (default: 50)"
    )
    parser.add_argument(
        "--stability-images",
        type=natural,
        default=20,
        metavar="N",
        help="annotated images that are shifted, mirrored and get noise (default: 20)",
    )
    parser.add_argument(
        "--size",
        type=side,
        metavar="PIXELS",
        help="resize them to this shorter side (default: as they are)",
    )
    parser.add_argument(
        "--tolerance",
        type=natural,
        default=BOUNDARY_TOLERANCE,
        help="pixels by which a recalled boundary may be off (default: %(default)s)",
    )
    parser.add_argument(
        "--faithfulness-images",
        type=natural,
        default=20,
        metavar="N",
        help="validation images of the config (default: 20)",
    )
    parser.add_argument(
        "--pointing-grids",
        type=natural,
        default=20,
        metavar="N",
        help="grids of four, from 16 times as many validation images (default: 20)",
    )
    parser.add_argument(
        "--random-orders",
        type=positive,
        default=3,
        help="random rankings an image (default: 3)",
    )
    parser.add_argument(
        "--untrained",
        type=natural,
        default=2,
        metavar="N",
        help="untrained networks, of seeds 0 to N - 1, beside it (default: 2)",
    )
    parser.add_argument(
        "--segments",
        type=positive,
        nargs="*",
        default=[2, 4, 8, 16, 32, 64],
        metavar="K",
        help="numbers of merged segments (default: 2 4 8 16 32 64)",
    )
    parser.add_argument(
        "--json", type=output_file, help="write the tables to this file, too"
    )
    parser.add_argument("--device", type=device, default=get_device())
    add_cfg_options(parser)
    return parse_arguments(parser)


def counted(items: Iterable, what: str) -> Iterator:
    """The same items; how many have been worked on is shown on standard error."""
    for number, item in enumerate(items, start=1):
        yield item
        print(f"\r{number} {what}", end="", file=sys.stderr)
    print(file=sys.stderr)


def untrained_models(cfg: Config, args: argparse.Namespace) -> list[nn.Module]:
    """The same network as its training would begin, with the seeds 0, 1, ..."""
    models = []
    with torch.random.fork_rng():
        for seed in range(args.untrained):
            torch.manual_seed(seed)
            model = build_model(cfg)
            initialize(model)
            models.append(model.eval().to(args.device))
    return models


def annotated(args: argparse.Namespace, number: int) -> Iterator[AnnotatedImage]:
    """Annotated images, of the size that is wanted."""
    root = args.data_root or ROOTS[args.dataset]
    images = annotated_images(args.dataset, root, args.split, number)
    if args.size is not None:
        images = (image.resized(args.size) for image in images)
    return counted(images, "annotated images")


def classified(cfg: Config, number: int) -> Iterator[dict]:
    """Samples of the config's validation, evenly spread."""
    dataset = MM_DATASETS.build(cfg.val_dataloader.dataset)
    positions = evenly_spaced(len(dataset), number)
    samples = (dataset[position] for position in positions)
    return counted(samples, f"of {len(positions)} classified images")


def measure(
    cfg: Config,
    model: nn.Module,
    untrained: list[nn.Module],
    args: argparse.Namespace,
) -> Iterator[tuple[str, dict]]:
    """Tables, each by its name."""
    if args.images:
        images = annotated(args, args.images)
        options = args.tolerance, untrained, args.segments
        yield "emergence", measure_emergence(model, images, *options)
    if args.stability_images:
        images = (found.image for found in annotated(args, args.stability_images))
        yield "stability", measure_stability(model, images, untrained)
    if not hasattr(model, "head"):  # no classifier
        return
    if args.faithfulness_images:
        samples = classified(cfg, args.faithfulness_images)
        found = measure_faithfulness(model, samples, args.random_orders, untrained)
        yield "faithfulness", found
    if args.pointing_grids:
        samples = classified(cfg, CANDIDATES * args.pointing_grids)
        found = measure_pointing(model, samples, args.pointing_grids, untrained)
        yield "pointing", found


def shown(row: dict, name: str, interval: bool = True) -> str:
    """A mean of a row, and the half width of its interval."""
    if row[name] is None:
        return "-"
    width = row["interval"][name]
    return f"{row[name]:.3f}" + (f" ± {width:.3f}" if interval and width else "")


def show_emergence(table: dict, args: argparse.Namespace) -> None:
    """Print the first table."""
    size = f", shorter side {args.size} px" if args.size else ""
    print(f"Emergence: {table['images']} images of {args.dataset}{size}")
    titles = ("segments", "count", "ASA", "UE", "BR", "best IoU", *BRIEF)
    for key, rows in (("stage", table["rows"]), ("k", table["merged"])):
        if rows:
            print(EMERGENCE.format(key, *titles))
        for row in rows:
            numbers = (
                shown(row, "accuracy"),
                shown(row, "undersegmentation"),
                shown(row, "boundary_recall", False),
                shown(row, "best_iou"),
                *(shown(row, name, False) for name in BRIEF.values()),
            )
            count = f"{row['count']:.1f}"
            print(EMERGENCE.format(row[key], row["segments"], count, *numbers))
    print(f"BR within {args.tolerance} pixels; large is good, of UE small.")
    times = table["seconds_per_image"].items()
    print("ms an image: " + ", ".join(f"{n} {1000 * t:.0f}" for n, t in times))


def show_table(name: str, table: dict) -> None:
    """Print another table."""
    title, columns, remark = OTHERS[name]
    print(f"\n{title.format(table['images'])}")
    count = "regions" if "regions" in table["rows"][0] else "count"
    layout = "{:<6}{:<24}{:>7}" + "{:>16}" * len(columns)
    print(layout.format("stage", "segments", "count", *columns.values()))
    for row in table["rows"]:
        numbers = [shown(row, name) for name in columns]
        words = row["stage"], row["segments"], f"{row[count]:.1f}", *numbers
        print(layout.format(*words))
    print(remark)


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        cfg = read_config(args.config, args.cfg_options)
        model = build_model(cfg, args.checkpoint).to(args.device)
        untrained = untrained_models(cfg, args)
        results = {
            "config": args.config,
            "checkpoint": Path(args.checkpoint).name,
            "cfg_options": args.cfg_options or {},
            "dataset": args.dataset,
            "split": args.split,
            "size": args.size,
            "tolerance": args.tolerance,
            "device": str(args.device),
        }
        for name, table in measure(cfg, model, untrained, args):
            results[name] = table
            if name == "emergence":
                show_emergence(table, args)
            else:
                show_table(name, table)
        if args.json is not None:
            write_text(args.json, json.dumps(results, indent=1) + "\n")
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    return 0


if __name__ == "__main__":
    run_tool(main)
