r"""Write one HTML file in which the clusters of a network can be explored.

Pointing at the photo lights up the pixel's cluster at every stage and head; a slider
merges all stages to as many segments as wanted. Works for classifiers, detectors and
segmentors; clusters are ranked by their importance for the predicted class in
classifiers. The file needs no server, no network and no library.

Without CONFIG and CHECKPOINT it is the published CIFAR-100 network, at --size 96.

Examples:
    python tools/visualize/explore.py photo.jpg
    python tools/visualize/explore.py photo.jpg CONFIG CHECKPOINT --out report.html
    python tools/visualize/explore.py val CONFIG CHECKPOINT --out report.html --limit 4
    ... --beside CONFIG untrained
"""

import argparse
import glob
import os.path
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import (
    add_cfg_options,
    add_max_pixels,
    device,
    fail,
    for_each_image,
    fraction,
    output_file,
    parse_arguments,
    positive,
    report_failures,
    side,
)
from cluenet_mm.config import read_config
from cluenet_mm.guard import run_tool
from cluenet_mm.inference.images import (
    IMAGE_SUFFIXES,
    find_images,
    read_image,
    resize_shorter_side,
)
from cluenet_mm.inference.predictor import Predictor
from cluenet_mm.interpret import find_backbone, to_input
from cluenet_mm.interpret.pixels import evenly_spaced
from cluenet_mm.interpret.report import (
    BLANKED,
    ReportImage,
    ReportNetwork,
    check_same_pixels,
    write_report,
)
from cluenet_mm.interpret.report_images import report_image
from cluenet_mm.package_data import config_path
from cluenet_mm.summary import counted
from cluenet_mm.zoo import published_model

NO_CLASS = "Importance is for classifiers: it needs one class for the whole image."
# Of images for the published network, which was trained on 32 x 32: more points to see.
PUBLISHED_SIZE = 96
# In place of a checkpoint: the weights that a training would begin with.
UNTRAINED = "untrained"
UNRANKED = {
    "last": "Importance was computed for the last stage; --importance all does all.",
    "all": "",
    "none": "Importance was left out (--importance none).",
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE ... [CONFIG CHECKPOINT]",
        help="files, folders, patterns, or `val` for samples of the config's dataset; "
        "then path or name of a config, and its weights",
    )
    parser.add_argument(
        "--beside",
        nargs=2,
        metavar=("CONFIG", "CHECKPOINT"),
        help=f"a second network, on the same images; {UNTRAINED!r} in place of a "
        "checkpoint shows it before its training",
    )
    parser.add_argument(
        "--out",
        type=output_file,
        default="report.html",
        help="the HTML file (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=positive, default=8, help="at most so many images (default: 8)"
    )
    parser.add_argument(
        "--importance",
        choices=["last", "all", "none"],
        default="last",
        help="stages whose clusters are ranked: two forward passes a cluster "
        "(default: the last stage)",
    )
    parser.add_argument(
        "--blank",
        choices=BLANKED,
        default="pixels",
        help="rank by blanking a cluster's pixels, or its points in front of its "
        "stage, which is faster and another question (default: pixels)",
    )
    parser.add_argument(
        "--no-segments",
        dest="segments",
        action="store_false",
        help="leave out the segments, which take a while for large images",
    )
    parser.add_argument(
        "--size",
        type=side,
        metavar="PIXELS",
        help="show whole images with this shorter side to a classifier, instead of "
        "what the config's test pipeline makes of them",
    )
    parser.add_argument("--note", help="a remark on the model, such as its training")
    parser.add_argument(
        "--score-thr",
        type=fraction,
        default=0.3,
        help="list instances from this score on (default: 0.3)",
    )
    parser.add_argument(
        "--device", type=device, help="such as cpu or cuda:1 (default: a free GPU)"
    )
    add_max_pixels(parser)
    add_cfg_options(parser)
    args = parse_arguments(parser)
    args.config = args.checkpoint = None
    given = len(args.images) > 1 and is_config(args.images[-2])
    if given or not names_images(args.images[-1]):
        if len(args.images) < 3:
            parser.error("CONFIG needs its CHECKPOINT; leave out both or none")
        *args.images, args.config, args.checkpoint = args.images
    elif args.size is None:
        args.size = PUBLISHED_SIZE
    return args


def names_images(word: str) -> bool:
    """Whether a word of the command line names images, and not a checkpoint."""
    is_file = Path(word).suffix.lower() in IMAGE_SUFFIXES
    return is_file or os.path.isdir(word) or glob.has_magic(word)


def is_config(word: str) -> bool:
    """Whether a word of the command line names a config."""
    try:
        return word.endswith(".py") or config_path(word).is_file()
    except FileNotFoundError:
        return False


def sources(
    images: str, cfg: Config, predictor: Predictor, args: argparse.Namespace
) -> list[tuple[str, Callable[[], BaseDataElement]]]:
    """Images that one word of the command line names: name, and prediction."""
    if images == "val":
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        return [
            (f"val {i}", lambda i=i: step(predictor, dataset[i]))
            for i in evenly_spaced(len(dataset), args.limit)
        ]
    found = [*find_images(images).values()][: args.limit]
    if args.size is None:
        return [(path.name, lambda path=path: predictor(path)[0]) for path in found]
    return [(path.name, partial(resized, predictor, path, args.size)) for path in found]


@torch.no_grad()
def step(predictor: Predictor, sample: dict) -> BaseDataElement:
    """Predict for a sample of a dataset."""
    return predictor.model.test_step(pseudo_collate([sample]))[0].cpu()


@torch.no_grad()
def resized(predictor: Predictor, path: Path, size: int) -> BaseDataElement:
    """Predict for a whole image of another size."""
    inputs = to_input(predictor.model, resize_shorter_side(read_image(path), size))
    return predictor.model(inputs, mode="predict")[0].cpu()


def load(
    config: str | None, checkpoint: str | None, args: argparse.Namespace
) -> tuple[Predictor, str, list[tuple[str, Callable[[], BaseDataElement]]]]:
    """A network, one line about it, and its predictions for the images.

    Raises:
        ValueError: It holds no clusters, or ``--size`` does not suit its task.
    """
    if config is None:
        cfg, checkpoint = published_model(cfg_options=args.cfg_options)
        config = cfg.filename
    else:
        cfg = read_config(config, args.cfg_options)
    weights = checkpoint
    if checkpoint == UNTRAINED:
        torch.manual_seed(0)
        weights = None
    predictor = Predictor(cfg, weights, args.device, args.max_pixels)
    backbone = find_backbone(predictor.model)
    if args.size is not None and predictor.scope != "mmpretrain":
        raise ValueError(
            "cannot use --size: it is for classifiers. Set the Resize of the pipeline "
            "with --cfg-options"
        )
    arch = cfg.model.backbone.get("arch", "")
    arch = f" {arch}" if isinstance(arch, str) else ""
    line = f"{type(backbone).__name__}{arch} in {type(predictor.model).__name__}"
    line += f" · {Path(config).stem} · {Path(checkpoint).name}"
    listed = [
        source for word in args.images for source in sources(word, cfg, predictor, args)
    ]
    return predictor, line, listed[: args.limit]


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    models = [(args.config, args.checkpoint)]
    if args.beside:
        models.append(tuple(args.beside))
    try:
        for word in args.images:
            if word != "val":
                find_images(word)  # before the model is built
        predictors, lines, listed = zip(
            *(load(*model, args) for model in models), strict=True
        )
        found = [
            (steps[0][0], [predict for _, predict in steps])
            for steps in zip(*listed, strict=False)
        ]
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    if args.note:
        lines = (f"{lines[0]} · {args.note}", *lines[1:])
    shown: list[list[ReportImage]] = []

    def look(name: str, predictions: list[Callable[[], BaseDataElement]]) -> None:
        images = [
            report_image(
                predictor,
                name,
                predict,
                ranked=args.importance,
                score_thr=args.score_thr,
                segmented=args.segments,
                blanked=args.blank,
            )
            for predictor, predict in zip(predictors, predictions, strict=True)
        ]
        try:
            check_same_pixels(images)
        except ValueError as error:
            # Of every image, since it is the pipelines that differ. The progress bar
            # leaves its line open.
            print()
            fail(error)
        shown.append(images)

    failed = for_each_image(found, look)
    if shown:
        networks = [
            ReportNetwork(
                line,
                images,
                UNRANKED[args.importance]
                if predictor.scope == "mmpretrain"
                else NO_CLASS,
            )
            for line, predictor, images in zip(
                lines, predictors, zip(*shown, strict=True), strict=True
            )
        ]
        try:
            write_report(args.out, networks)
        except OSError as error:
            fail(error)
        size = args.out.stat().st_size / 1e6
        number = counted(len(shown), "image")
        print(f"{args.out}: {number}, {size:.1f} MB; open it in a browser")
    return report_failures(failed, len(found))


if __name__ == "__main__":
    run_tool(main)
