"""How well clusters match real objects, and whether importance tells the truth.

Beside the clusters stand those of the same network before training, Ward's method on
colors, Felzenszwalb's segments, SLIC superpixels and a grid of equal count. Definitions
are in cluenet_mm/interpret/quality.py and importance.py; every mean has the half width
of its 95 % confidence interval over images in the JSON, and of the first columns here:

* emergence: achievable segmentation accuracy (ASA), under-segmentation error (UE),
  boundary recall (BR), best-match IoU, normalized mutual information (NMI) and adjusted
  Rand index (ARI) against annotated images, and explained variation (EV) of color; a
  head is a partition of its own, and a number the mean over heads and images;
* segments merged from all stages, at equal numbers, without and with colors;
* faithfulness, of classifiers: area under the insertion and deletion curves of the
  ranking by importance for the predicted class, by Grad-CAM, and of random rankings, on
  the validation images of the config, with the regions of the first head.

Examples (a config is a path or a name such as cluenet/cls_digits):
  cluster_quality.py CONFIG CHECKPOINT --dataset digits
  cluster_quality.py CONFIG CHECKPOINT --dataset coco --data-root data/coco \
      --images 50 --size 224 --json quality.json
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
from cluenet_mm.cli import device, fail, natural, output_file, positive, side
from cluenet_mm.config import read_config
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model, initialize
from cluenet_mm.interpret.annotated_images import DATASETS, annotated_images
from cluenet_mm.interpret.measure import measure_emergence, measure_faithfulness
from cluenet_mm.interpret.pixels import evenly_spaced
from cluenet_mm.interpret.quality import BOUNDARY_TOLERANCE

ROOTS = {
    "digits": "data/digits_scenes",
    "coco": "data/coco",
    "camvid": "data/camvid",
}
EMERGENCE = "{:<6}{:<24}{:>7}{:>14}{:>14}{:>8}{:>14}{:>8}{:>8}{:>8}"
FAITHFULNESS = "{:<6}{:<22}{:>7}{:>14}{:>9}{:>14}{:>9}"


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
        "--images", type=positive, default=50, help="annotated images (default: 50)"
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
        help="validation images of the config; 0 leaves this table out (default: 20)",
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
    return parser.parse_args()


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


def emergence(
    model: nn.Module, untrained: list[nn.Module], args: argparse.Namespace
) -> dict:
    """Measure the first table."""
    root = args.data_root or ROOTS[args.dataset]
    images = annotated_images(args.dataset, root, args.split, args.images)
    if args.size is not None:
        images = (image.resized(args.size) for image in images)
    images = counted(images, "annotated images")
    return measure_emergence(model, images, args.tolerance, untrained, args.segments)


def faithfulness(
    model: nn.Module, untrained: list[nn.Module], cfg: Config, args: argparse.Namespace
) -> dict:
    """Measure the second table."""
    dataset = MM_DATASETS.build(cfg.val_dataloader.dataset)
    positions = evenly_spaced(len(dataset), args.faithfulness_images)
    samples = (dataset[position] for position in positions)
    samples = counted(samples, f"of {len(positions)} classified images")
    return measure_faithfulness(model, samples, args.random_orders, untrained)


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
    titles = ("segments", "count", "ASA", "UE", "BR", "best IoU", "NMI", "ARI", "EV")
    for key, rows in (("stage", table["rows"]), ("k", table["merged"])):
        if rows:
            print(EMERGENCE.format(key, *titles))
        for row in rows:
            numbers = (
                shown(row, "accuracy"),
                shown(row, "undersegmentation"),
                shown(row, "boundary_recall", False),
                shown(row, "best_iou"),
                *(shown(row, name, False) for name in ("nmi", "ari", "explained")),
            )
            count = f"{row['count']:.1f}"
            print(EMERGENCE.format(row[key], row["segments"], count, *numbers))
    print(f"BR within {args.tolerance} pixels; large is good, of UE small.")
    times = table["seconds_per_image"].items()
    print("ms an image: " + ", ".join(f"{n} {1000 * t:.0f}" for n, t in times))


def show_faithfulness(table: dict, args: argparse.Namespace) -> None:
    """Print the second table."""
    print(f"\nFaithfulness: {table['images']} validation images of the config")
    print(
        FAITHFULNESS.format(
            "stage", "regions", "count", "insertion", "random", "deletion", "random"
        )
    )
    for row in table["rows"]:
        numbers = (
            shown(row, "insertion"),
            shown(row, "random_insertion", False),
            shown(row, "deletion"),
            shown(row, "random_deletion", False),
        )
        count = f"{row['regions']:.1f}"
        print(FAITHFULNESS.format(row["stage"], row["segments"], count, *numbers))
    print("Areas under the curves; large is good, of deletion small.")
    print(f"ms an image and stage: {1000 * table['seconds_per_image_and_stage']:.0f}")


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        cfg = read_config(args.config)
        model = build_model(cfg, args.checkpoint).to(args.device)
        untrained = untrained_models(cfg, args)
        results = {
            "config": args.config,
            "checkpoint": Path(args.checkpoint).name,
            "dataset": args.dataset,
            "split": args.split,
            "size": args.size,
            "tolerance": args.tolerance,
            "device": str(args.device),
            "emergence": emergence(model, untrained, args),
        }
        show_emergence(results["emergence"], args)
        if args.faithfulness_images > 0 and hasattr(model, "head"):
            results["faithfulness"] = faithfulness(model, untrained, cfg, args)
            show_faithfulness(results["faithfulness"], args)
        if args.json is not None:
            write_text(args.json, json.dumps(results, indent=1) + "\n")
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    return 0


if __name__ == "__main__":
    run_tool(main)
