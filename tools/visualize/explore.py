r"""Write one HTML file in which the clusters of a network can be explored.

Pointing at the photo lights up the pixel's cluster at every stage and head. Works for
classifiers, detectors and segmentors; clusters are ranked by their importance for the
predicted class in classifiers. The file needs no server, no network and no library.

Examples:
    python tools/visualize/explore.py photo.jpg CONFIG CHECKPOINT --out report.html
    python tools/visualize/explore.py val CONFIG CHECKPOINT --out report.html --limit 4
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import chain, islice
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
    output_file,
    parse_arguments,
    positive,
    report_failures,
    side,
)
from cluenet_mm.config import read_config
from cluenet_mm.guard import run_tool
from cluenet_mm.inference.images import find_images, read_image, resize_shorter_side
from cluenet_mm.inference.predictor import Predictor
from cluenet_mm.interpret import find_backbone, to_input
from cluenet_mm.interpret.report import write_report
from cluenet_mm.interpret.report_images import report_image

# Datasets are sorted by class: a stride over all of them shows many.
STRIDE = 37
NO_CLASS = "Importance is for classifiers: it needs one class for the whole image."
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
        help="files, folders, patterns, or `val` for samples of the config's dataset",
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument("--out", type=output_file, required=True, help="the HTML file")
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
        "--size",
        type=side,
        metavar="PIXELS",
        help="show whole images with this shorter side to a classifier, instead of "
        "what the config's test pipeline makes of them",
    )
    parser.add_argument("--note", help="a remark on the model, such as its training")
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        help="list instances from this score on (default: 0.3)",
    )
    parser.add_argument(
        "--device", type=device, help="such as cpu or cuda:1 (default: a free GPU)"
    )
    add_max_pixels(parser)
    add_cfg_options(parser)
    return parse_arguments(parser)


def sources(
    images: str, cfg: Config, predictor: Predictor, size: int | None
) -> Iterator[tuple[str, Callable[[], BaseDataElement]]]:
    """Images that one word of the command line stands for: name, and prediction."""
    if images == "val":
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        for i in range(len(dataset)):
            number = i * STRIDE % len(dataset)
            yield f"val {number}", lambda n=number: step(predictor, dataset[n])
        return
    for path in find_images(images).values():
        if size is None:
            yield path.name, lambda p=path: predictor(p)[0]
        else:
            yield path.name, lambda p=path: resized(predictor, p, size)


@torch.no_grad()
def step(predictor: Predictor, sample: dict) -> BaseDataElement:
    """Predict for a sample of a dataset."""
    return predictor.model.test_step(pseudo_collate([sample]))[0].cpu()


@torch.no_grad()
def resized(predictor: Predictor, path: Path, size: int) -> BaseDataElement:
    """Predict for a whole image of another size."""
    inputs = to_input(predictor.model, resize_shorter_side(read_image(path), size))
    return predictor.model(inputs, mode="predict")[0].cpu()


def describe(cfg: Config, args: argparse.Namespace, predictor: Predictor) -> str:
    """One line about the model."""
    backbone = find_backbone(predictor.model)
    arch = cfg.model.backbone.get("arch", "")
    arch = f" {arch}" if isinstance(arch, str) else ""
    line = f"{type(backbone).__name__}{arch} in {type(predictor.model).__name__}"
    line += f" · {Path(args.config).stem} · {Path(args.checkpoint).name}"
    return f"{line} · {args.note}" if args.note else line


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        for word in args.images:
            if word != "val":
                find_images(word)  # before the model is built
        cfg = read_config(args.config, args.cfg_options)
        predictor = Predictor(cfg, args.checkpoint, args.device, args.max_pixels)
        find_backbone(predictor.model)
        classifies = predictor.scope == "mmpretrain"
        if args.size is not None and not classifies:
            raise ValueError(
                "--size is for classifiers; of other models change the pipeline's "
                "Resize with --cfg-options"
            )
        listed = chain.from_iterable(
            sources(word, cfg, predictor, args.size) for word in args.images
        )
        found = list(islice(listed, args.limit))
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    shown = []

    def look(name: str, predict: Callable[[], BaseDataElement]) -> None:
        image = report_image(predictor, name, predict, args.importance, args.score_thr)
        shown.append(image)

    failed = for_each_image(found, look)
    if shown:
        try:
            write_report(
                args.out,
                shown,
                describe(cfg, args, predictor),
                unranked=UNRANKED[args.importance] if classifies else NO_CLASS,
            )
        except OSError as error:
            fail(error)
        size = args.out.stat().st_size / 1e6
        print(f"{args.out}: images: {len(shown)}, {size:.1f} MB; open it in a browser")
    return report_failures(failed, len(found))


if __name__ == "__main__":
    run_tool(main)
