"""Draw the clusters of every stage over images, one PNG an image.

Examples:
    python tools/visualize/clusters.py photo.jpg CONFIG CHECKPOINT --out-dir clusters
    python tools/visualize/clusters.py val CONFIG CHECKPOINT --out-dir clusters
    ... --heads 4 --all-blocks --colors mean --merge 6
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor, nn

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import (
    add_cfg_options,
    add_max_pixels,
    fail,
    for_each_image,
    fraction,
    output_folder,
    parse_arguments,
    positive,
    report_failures,
    side,
)
from cluenet_mm.config import read_config
from cluenet_mm.files import atomic_write, path_inside
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model
from cluenet_mm.inference.images import (
    find_images,
    limit_pixels,
    read_image,
    resize_shorter_side,
)
from cluenet_mm.interpret import (
    cluster_figure,
    find_backbone,
    from_sample,
    to_input,
    trace,
)
from cluenet_mm.interpret.figures import COLORINGS
from cluenet_mm.interpret.pixels import evenly_spaced
from cluenet_mm.summary import counted


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "images",
        help="file, folder, pattern, or `val` for samples of the config's dataset",
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument(
        "--out-dir", type=output_folder, required=True, help="folder for the pictures"
    )
    parser.add_argument(
        "--limit", type=positive, default=8, help="at most so many images"
    )
    parser.add_argument(
        "--heads", type=positive, default=1, help="at most so many heads a stage"
    )
    parser.add_argument(
        "--all-blocks",
        action="store_true",
        help="every block that clusters, not only the last one of a stage",
    )
    parser.add_argument(
        "--colors",
        choices=COLORINGS,
        default="feature",
        help="similar centers in similar colors, the mean color of the pixels, or "
        "a palette (default: %(default)s)",
    )
    parser.add_argument(
        "--merge", type=positive, metavar="K", help="merge similar clusters to K a map"
    )
    parser.add_argument(
        "--opacity", type=fraction, default=0.6, help="of the colors (default: 0.6)"
    )
    parser.add_argument(
        "--size",
        type=side,
        metavar="PIXELS",
        help="resize image files to this shorter side, --max-pixels or not",
    )
    add_max_pixels(parser)
    add_cfg_options(parser)
    return parse_arguments(parser)


def samples(
    args: argparse.Namespace, cfg: Config, model: nn.Module
) -> list[tuple[str, Callable[[], tuple[Tensor, np.ndarray]]]]:
    """Images that the command line asks for, read when they are needed.

    Returns:
        Names of pictures, and functions that return the network's input
        ``(1, 3, H, W)`` and the photograph ``(h, w, 3)`` uint8, RGB.

    Raises:
        FileNotFoundError: The file does not exist, or the folder contains no image.
    """
    if args.images == "val":
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        return [
            (f"val_{i:05d}", lambda i=i: from_sample(model, dataset[i]))
            for i in evenly_spaced(len(dataset), args.limit)
        ]
    found = find_images(args.images, args.out_dir)
    return [
        (name, partial(read, path, model, args.size, args.max_pixels))
        for name, path in found.items()
    ][: args.limit]


def check_out_dir(args: argparse.Namespace) -> None:
    """Refuse a folder where pictures would replace images.

    Raises:
        ValueError: The images lie there.
    """
    images, out_dir = Path(args.images).resolve(), args.out_dir.resolve()
    if images in (out_dir, out_dir / f"{images.stem}.png"):
        raise ValueError(
            f"cannot draw into {args.out_dir}: the images lie there. Give another "
            "--out-dir"
        )


def read(
    path: Path, model: nn.Module, size: int | None, max_pixels: int
) -> tuple[Tensor, np.ndarray]:
    """Network input and photograph of a file."""
    image = read_image(path)
    if size is not None:
        image = resize_shorter_side(image, size)
    else:
        image = limit_pixels(image, max_pixels, str(path))
    return to_input(model, image), image


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        check_out_dir(args)
        cfg = read_config(args.config, args.cfg_options)
        model = build_model(cfg, args.checkpoint)
        find_backbone(model)
        found = samples(args, cfg, model)
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)

    def draw(name: str, load: Callable[[], tuple[Tensor, np.ndarray]]) -> None:
        inputs, image = load()
        figure = cluster_figure(
            image,
            trace(model, inputs),
            max_heads=args.heads,
            all_blocks=args.all_blocks,
            coloring=args.colors,
            merge=args.merge,
            opacity=args.opacity,
        )
        with atomic_write(path_inside(args.out_dir, f"{name}.png")) as temporary:
            figure.savefig(temporary, dpi=110)

    failed = for_each_image(found, draw)
    number = counted(len(found) - len(failed), "picture")
    print(f"{args.out_dir}: {number}")
    return report_failures(failed, len(found))


if __name__ == "__main__":
    run_tool(main)
