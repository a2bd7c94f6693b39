r"""Predict for images with a model of any task: classify, detect or segment.

The task is the config's. Of every image the folder gets

  preds/NAME.json   the prediction: classes with their scores; instances with boxes and
                    masks (COCO's run-length encoding); the pixels of every class, or
                    of every segment
  preds/NAME.png    of a segmentation: the labels, numbered as in the JSON; of a
                    panoptic one the segments, in COCO's colours (R + 256 G + 256^2 B)
  vis/NAME.png      the prediction drawn over the image

NAME is that of the image below IMAGES, without its suffix (with it, where two would
have the same). Images whose JSON is there already, made by the same model, are left
out: run an interrupted command again and it goes on. Images that fail, as those that
are damaged, are named at the end with the reason and make the exit status 1.

Example: infer.py photos cluenet/mask_rcnn_coco_tiny epoch_12.pth --out-dir found
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from mmengine.config import DictAction
from mmengine.utils import track_iter_progress
from PIL import Image

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.datasets.panoptic_png import write_panoptic
from cluenet_mm.engine.cli import (
    device,
    fail,
    output_folder,
    parse_arguments,
    read_config,
    reason_and_place,
)
from cluenet_mm.engine.draw import UnreadableImageError
from cluenet_mm.engine.inference import (
    IMAGE_SUFFIXES,
    Predictor,
    fingerprint,
    label_map,
)
from cluenet_mm.files import replacing, write_text


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="an image, or a folder of images")
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument(
        "--out-dir", type=output_folder, required=True, help="folder of results"
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        help="draw instances from this score on; the JSON has all (default: 0.3)",
    )
    parser.add_argument(
        "--device", type=device, help="such as cpu or cuda:1 (default: a free GPU)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="predict again what is there already"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="override settings of the config",
    )
    return parse_arguments(parser)


def find_images(source: Path, out_dir: Path) -> dict[str, Path]:
    """Images by the name of their results.

    Args:
        source: A file, which may have any suffix, or a folder, of which all images are
            taken, those in subfolders too.
        out_dir: Left out, where it lies in the folder.

    Raises:
        FileNotFoundError: There is no such file, or no image in the folder.
    """
    if source.is_file():
        return {source.stem: source}
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist")
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not path.resolve().is_relative_to(out_dir.resolve())
    ]
    if not files:
        raise FileNotFoundError(f"folder {source} holds no image")
    short = {path: path.relative_to(source).with_suffix("") for path in files}
    uses = Counter(short.values())
    return {
        str(name if uses[name] == 1 else path.relative_to(source)): path
        for path, name in short.items()
    }


def is_done(path: Path, model: str) -> bool:
    """Whether a result of this model is there."""
    try:
        return json.loads(path.read_text())["model"] == model
    except (OSError, ValueError, KeyError, TypeError):
        return False


def infer(
    predictor: Predictor,
    image_path: Path,
    name: str,
    args: argparse.Namespace,
    model: str,
) -> None:
    """Predict for one image and write its files; the JSON, written last, seals them."""
    sample, image = predictor(image_path)
    predictor.draw(image, sample, args.out_dir / "vis" / f"{name}.png", args.score_thr)
    json_path = args.out_dir / "preds" / f"{name}.json"
    record = {"image": str(image_path), "model": model, **predictor.record(sample)}
    png_path = json_path.with_name(f"{json_path.stem}.png")
    if predictor.scope == "mmseg":
        with replacing(png_path) as temporary:
            Image.fromarray(label_map(sample)).save(temporary)
        record["label_map"] = png_path.name
    elif "segments" in record:
        write_panoptic(png_path, predictor.panoptic_segments(sample)[0])
        record["segment_map"] = png_path.name
    write_text(json_path, json.dumps(record) + "\n")


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        images = find_images(args.images, args.out_dir)
        cfg = read_config(args.config, args.cfg_options)
        predictor = Predictor(cfg, args.checkpoint, args.device)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        fail(error)
    preds = args.out_dir / "preds"
    preds.mkdir(parents=True, exist_ok=True)
    model = fingerprint(cfg, args.checkpoint, args.score_thr)
    left = [
        (name, path)
        for name, path in images.items()
        if args.overwrite or not is_done(preds / f"{name}.json", model)
    ]
    done, failed = len(images) - len(left), []
    if done:
        print(f"{done} of {len(images)} results are there already")
    try:
        for name, path in track_iter_progress(left):
            try:
                infer(predictor, path, name, args, model)
            except UnreadableImageError as error:
                failed.append(f"{error}: it is damaged or no image")
            except Exception as error:  # the other images do not depend on this one
                failed.append(f"{path}: {reason_and_place(error)}")
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"\n{len(left) - len(failed)} new results in {args.out_dir}")
    if failed:
        print(f"{len(failed)} of {len(images)} images failed", file=sys.stderr)
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
