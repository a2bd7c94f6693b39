r"""Predict for images with a model of any task: classify, detect or segment.

The task is the config's. Of every image the folder gets

  preds/NAME.json   the prediction: classes with their scores; instances with boxes and
                    masks (COCO's run-length encoding); the pixels of every class, or
                    of every segment
  preds/NAME.png    of a segmentation: the labels, numbered as in the JSON; of a
                    panoptic one the segments, in COCO's colors (R + 256 G + 256^2 B)
  vis/NAME.png      the prediction drawn over the image

Without CONFIG and CHECKPOINT the published network classifies: the 100 classes of
CIFAR-100, at 32 x 32 pixels.

NAME is that of the image below IMAGES, without its suffix (with it, where two would
have the same). Images whose JSON exists already, made of the same file by the same
model, are skipped: run an interrupted command again to continue. Images that fail,
such as damaged ones, are listed at the end with the reason, and the exit status is 1.

Examples:
    infer.py photo.jpg
    infer.py photos cluenet/mask_rcnn_coco_tiny epoch_12.pth --out-dir found
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from PIL import Image

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import (
    add_cfg_options,
    add_max_pixels,
    device,
    fail,
    for_each_image,
    fraction,
    output_folder,
    parse_arguments,
    report_failures,
)
from cluenet_mm.config import read_config
from cluenet_mm.datasets.panoptic_png import write_panoptic
from cluenet_mm.files import atomic_write, path_inside, write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference.images import find_images
from cluenet_mm.inference.predictor import Predictor, fingerprint, label_map
from cluenet_mm.summary import counted
from cluenet_mm.zoo import published_model

# Predictions that are printed, of many images.
PRINTED = 10


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="an image, or a folder of images")
    parser.add_argument("config", nargs="?", help="path or name of a config")
    parser.add_argument("checkpoint", nargs="?", help="weights of that config")
    parser.add_argument(
        "--out-dir",
        type=output_folder,
        default="found",
        help="folder of results (default: %(default)s)",
    )
    parser.add_argument(
        "--score-thr",
        type=fraction,
        default=0.3,
        help="draw instances from this score on; the JSON has all (default: 0.3)",
    )
    parser.add_argument(
        "--device", type=device, help="such as cpu or cuda:1 (default: a free GPU)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="predict again what exists already"
    )
    add_max_pixels(parser)
    add_cfg_options(parser)
    args = parse_arguments(parser)
    if args.config and not args.checkpoint:
        parser.error("CONFIG needs its CHECKPOINT; leave out both or none")
    return args


def is_done(path: Path, image: Path, model: str) -> bool:
    """Whether this model's result of this image, as it is now, is there."""
    try:
        record = json.loads(path.read_text())
        newer = path.stat().st_mtime_ns >= image.stat().st_mtime_ns
        return newer and (record["image"], record["model"]) == (str(image), model)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def infer(
    predictor: Predictor,
    image_path: str,
    name: str,
    args: argparse.Namespace,
    model: str,
) -> str:
    """Predict for one image and write its files, the JSON last.

    Returns:
        The prediction in a few words.
    """
    sample, image = predictor(image_path)
    picture = path_inside(args.out_dir / "vis", f"{name}.png")
    predictor.draw(image, sample, picture, args.score_thr)
    json_path = path_inside(args.out_dir / "preds", f"{name}.json")
    record = {"image": image_path, "model": model, **predictor.record(sample)}
    png_path = json_path.with_name(f"{json_path.stem}.png")
    if predictor.scope == "mmseg":
        with atomic_write(png_path) as temporary:
            Image.fromarray(label_map(sample)).save(temporary)
        record["label_map"] = png_path.name
    elif "segments" in record:
        write_panoptic(png_path, predictor.panoptic_segments(sample)[0])
        record["segment_map"] = png_path.name
    write_text(json_path, json.dumps(record) + "\n")
    return headline(record, args.score_thr)


def headline(record: dict, score_thr: float) -> str:
    """A prediction in a few words."""
    if "scores" in record:
        return f"{record['class']} {record['score']:.2f}"
    if "instances" in record:
        found = [i["class"] for i in record["instances"] if i["score"] >= score_thr]
    elif "segments" in record:
        found = [segment["class"] for segment in record["segments"]]
    else:
        total = sum(entry["pixels"] for entry in record["classes"])
        entries = sorted(record["classes"], key=lambda entry: -entry["pixels"])
        shares = (f"{e['class']} {e['pixels'] / total:.0%}" for e in entries[:5])
        return ", ".join(shares)
    counts = Counter(found).most_common(5)
    return ", ".join(f"{number} {name}" for name, number in counts) or "nothing"


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        results = (args.out_dir / "preds", args.out_dir / "vis")
        images = find_images(args.images, *results)
        if args.config:
            cfg = read_config(args.config, args.cfg_options)
            checkpoint = args.checkpoint
        else:
            cfg, checkpoint = published_model(cfg_options=args.cfg_options)
        predictor = Predictor(cfg, checkpoint, args.device, args.max_pixels)
        model = fingerprint(cfg, checkpoint, args.score_thr, args.max_pixels)
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    left = [
        (str(path), name)
        for name, path in images.items()
        if args.overwrite
        or not is_done(path_inside(args.out_dir / "preds", f"{name}.json"), path, model)
    ]
    done = len(images) - len(left)
    if done:
        print(f"{done} of {counted(len(images), 'result')} exist already")
    lines = []

    def work(path: str, name: str) -> None:
        lines.append(f"{path}: {infer(predictor, path, name, args, model)}")

    failed = for_each_image(left, work)
    for line in lines[:PRINTED]:
        print(line)
    print(f"{counted(len(lines), 'new result')} in {args.out_dir}")
    return report_failures(failed, len(images))


if __name__ == "__main__":
    run_tool(main, "run the same command again to continue")
