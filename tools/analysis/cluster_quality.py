"""How well clusters match real objects, and whether importance tells the truth.

Two tables, each with SLIC superpixels and a regular grid of equal count beside the
clusters; definitions in cluenet_mm/interpret/quality.py and importance.py:

* emergence: achievable segmentation accuracy (ASA), under-segmentation error (UE),
  boundary recall (BR) and best-match IoU against annotated images; a head is a
  partition of its own, and a number the mean over heads and images;
* faithfulness, of classifiers: area under the insertion and deletion curves of the
  ranking by importance for the predicted class, and of random rankings, on the
  validation images of the config, with the regions of the first head.

Examples (a config is a path or a name such as cluenet/cls_digits):
  cluster_quality.py CONFIG CHECKPOINT --dataset digits
  cluster_quality.py CONFIG CHECKPOINT --dataset coco --data-root data/coco \
      --images 50 --size 224 --json quality.json
"""

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS as MM_DATASETS
from torch import nn

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.engine import build_model
from cluenet_mm.engine.cli import device, fail, output_file, positive, read_config
from cluenet_mm.files import write_text
from cluenet_mm.interpret import (
    class_probabilities,
    faithfulness,
    from_sample,
    receptive_fields,
    to_input,
    trace,
)
from cluenet_mm.interpret.pixels import spread
from cluenet_mm.interpret.quality import (
    BOUNDARY_TOLERANCE,
    Agreement,
    grid_segments,
    slic_segments,
)
from cluenet_mm.interpret.truth import DATASETS, annotated_images

ROOTS = {
    "digits": "data/digits_scenes",
    "coco": "data/coco",
    "camvid": "data/camvid",
}
# Of a forward pass when regions are blanked: 32 images of 224 x 224.
BATCH_PIXELS = 32 * 224 * 224
EMERGENCE = "{:<8}{:<10}{:>10}{:>8}{:>8}{:>8}{:>10}"
FAITHFULNESS = "{:<8}{:<10}{:>10}{:>11}{:>10}{:>11}{:>10}"
BASELINES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "SLIC": slic_segments,
    "grid": lambda image, count: grid_segments(image.shape[:2], count),
}


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
        type=positive,
        metavar="PIXELS",
        help="resize them to this shorter side (default: as they are)",
    )
    parser.add_argument(
        "--tolerance",
        type=int,
        default=BOUNDARY_TOLERANCE,
        help="pixels by which a recalled boundary may be off (default: %(default)s)",
    )
    parser.add_argument(
        "--faithfulness-images",
        type=int,
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
        "--json", type=output_file, help="write the tables to this file, too"
    )
    parser.add_argument("--device", type=device, default=get_device())
    return parser.parse_args()


def measure_emergence(model: nn.Module, args: argparse.Namespace) -> dict:
    """Agreement of the clusters of every stage, and of the baselines.

    Returns:
        ``rows`` and the mean seconds that a trace and each baseline took.
    """
    scores, seconds = defaultdict(list), defaultdict(list)
    root = args.data_root or ROOTS[args.dataset]
    images = annotated_images(args.dataset, root, args.split, args.images)
    number = 0
    for number, entry in enumerate(images, start=1):
        if args.size is not None:
            entry = entry.resized(args.size)
        inputs = to_input(model, entry.image)
        start = time.perf_counter()
        maps = trace(model, inputs).to("cpu")
        seconds["trace"].append(time.perf_counter() - start)

        def compare(segments: np.ndarray, entry=entry) -> Agreement:
            return Agreement.of(segments, entry.truth, entry.background, args.tolerance)

        made = {}  # stages with equal counts share their baselines
        for stage in range(len(maps.sizes)):
            heads = maps.clusters(stage, grid="image")[0].numpy()
            found = Agreement.mean([compare(head) for head in heads])
            scores[stage, "clusters"].append(found)
            count = max(round(found.segments), 1)
            for name, segment in BASELINES.items():
                if (name, count) not in made:
                    start = time.perf_counter()
                    segments = segment(entry.image, count)
                    seconds[name].append(time.perf_counter() - start)
                    made[name, count] = compare(segments)
                scores[stage, name].append(made[name, count])
        print(f"\r{number} annotated images", end="", file=sys.stderr)
    print(file=sys.stderr)
    rows = [
        {"stage": stage + 1, "segments": name, **rename(Agreement.mean(found))}
        for (stage, name), found in scores.items()
    ]
    times = {name: float(np.mean(values)) for name, values in seconds.items()}
    return {"rows": rows, "seconds_per_image": times, "images": number}


def rename(agreement: Agreement) -> dict:
    """Numbers of an agreement; ``None``, which JSON knows, where there is none."""
    row = asdict(agreement)
    row["count"] = row.pop("segments")
    return {key: None if math.isnan(value) else value for key, value in row.items()}


def measure_faithfulness(
    model: nn.Module, cfg: Config, args: argparse.Namespace
) -> dict:
    """Curves of the importance ranking with the regions of every stage."""
    predict = class_probabilities(model)
    dataset = MM_DATASETS.build(cfg.val_dataloader.dataset)
    positions = spread(len(dataset), args.faithfulness_images)
    scores, seconds = defaultdict(list), []
    for number, position in enumerate(positions, start=1):
        inputs, picture = from_sample(model, dataset[position])
        label = int(predict(inputs)[0].argmax())
        maps = trace(model, inputs)
        for stage in range(len(maps.sizes)):
            masks = {"clusters": receptive_fields(maps, stage=stage).masks}
            for name, segment in BASELINES.items():
                segments = torch.from_numpy(segment(picture, len(masks["clusters"])))
                names = segments.unique()[:, None, None]
                masks[name] = (segments == names).to(inputs.device)
            for name, regions in masks.items():
                start = time.perf_counter()
                found = faithfulness(
                    predict,
                    inputs[0],
                    regions,
                    label,
                    batch_size=max(BATCH_PIXELS // inputs[0, 0].numel(), 1),
                    random_orders=args.random_orders,
                    seed=number,
                )
                if name == "clusters":
                    seconds.append(time.perf_counter() - start)
                scores[stage, name].append(found)
        print(f"\r{number}/{len(positions)} classified images", end="", file=sys.stderr)
    print(file=sys.stderr)
    rows = []
    for (stage, name), found in scores.items():
        means = {
            key: float(np.mean([asdict(f)[key] for f in found]))
            for key in asdict(found[0])
        }
        rows.append({"stage": stage + 1, "segments": name, **means})
    return {
        "rows": rows,
        "images": len(positions),
        "seconds_per_image_and_stage": float(np.mean(seconds)),
    }


def show_emergence(table: dict, args: argparse.Namespace) -> None:
    """Print the first table."""
    size = f", shorter side {args.size} px" if args.size else ""
    print(f"Emergence: {table['images']} images of {args.dataset}{size}")
    print(EMERGENCE.format("stage", "segments", "count", "ASA", "UE", "BR", "best IoU"))
    keys = ("accuracy", "undersegmentation", "boundary_recall", "best_iou")
    for row in table["rows"]:
        numbers = ["-" if row[key] is None else f"{row[key]:.3f}" for key in keys]
        count = f"{row['count']:.1f}"
        print(EMERGENCE.format(row["stage"], row["segments"], count, *numbers))
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
    keys = ("insertion", "random_insertion", "deletion", "random_deletion")
    for row in table["rows"]:
        numbers = [f"{row[key]:.3f}" for key in keys]
        count = f"{row['regions']:.1f}"
        print(FAITHFULNESS.format(row["stage"], row["segments"], count, *numbers))
    print("Areas under the curves; large is good, of deletion small.")
    print(f"ms an image and stage: {1000 * table['seconds_per_image_and_stage']:.0f}")


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        cfg = read_config(args.config)
        model = build_model(cfg, args.checkpoint).to(args.device)
        results = {
            "config": args.config,
            "checkpoint": Path(args.checkpoint).name,
            "dataset": args.dataset,
            "split": args.split,
            "size": args.size,
            "tolerance": args.tolerance,
            "device": str(args.device),
            "emergence": measure_emergence(model, args),
        }
        show_emergence(results["emergence"], args)
        if args.faithfulness_images > 0 and hasattr(model, "head"):
            results["faithfulness"] = measure_faithfulness(model, cfg, args)
            show_faithfulness(results["faithfulness"], args)
        if args.json is not None:
            write_text(args.json, json.dumps(results, indent=1) + "\n")
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)


if __name__ == "__main__":
    main()
