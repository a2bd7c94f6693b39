"""Draw the clusters of every stage over images, one PNG an image.

Examples:
    python tools/visualize/clusters.py photo.jpg CONFIG CHECKPOINT --out-dir clusters
    python tools/visualize/clusters.py val CONFIG CHECKPOINT --out-dir clusters
    ... --heads 4 --all-blocks --colors mean --merge 6
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.engine import build_model
from cluenet_mm.engine.cli import fail, output_folder, positive, read_config
from cluenet_mm.engine.draw import read_image
from cluenet_mm.engine.inference import IMAGE_SUFFIXES
from cluenet_mm.files import replacing
from cluenet_mm.interpret import (
    cluster_figure,
    find_backbone,
    from_sample,
    to_input,
    trace,
)
from cluenet_mm.interpret.draw import COLORINGS


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "images", help="a file, a folder, or `val` for samples of the config's data set"
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
        help="similar centres in similar colours, the mean colour of the pixels, or "
        "a palette (default: %(default)s)",
    )
    parser.add_argument(
        "--merge", type=positive, metavar="K", help="merge similar clusters to K a map"
    )
    parser.add_argument(
        "--opacity", type=float, default=0.6, help="of the colours (default: 0.6)"
    )
    parser.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="resize image files to this shorter side (default: as they are)",
    )
    return parser.parse_args()


def samples(
    images: str, cfg: Config, model: nn.Module, size: int | None
) -> Iterator[tuple[str, Tensor, np.ndarray]]:
    """Name, network input and photograph of every image.

    Args:
        images: File, folder or ``val``.
        cfg: Config of the model and its data sets.
        model: The model.
        size: Shorter side that image files are resized to.

    Yields:
        A name for the picture, ``(1, 3, H, W)`` and ``(h, w, 3)`` uint8, RGB.

    Raises:
        FileNotFoundError: If there is no such file, or no image in the folder.
        ValueError: If a file cannot be decoded.
    """
    if images == "val":
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        # Data sets are sorted by class: a stride over all of them shows many.
        for i in range(len(dataset)):
            yield f"val_{i:05d}", *from_sample(model, dataset[i * 37 % len(dataset)])
        return
    source = Path(images)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    files = [f for f in files if f.is_file() and f.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise FileNotFoundError(f"{images} is no image and no folder that holds one")
    for file in files:
        image = read_image(file)
        if size is not None:
            scale = size / min(image.shape[:2])
            shape = [max(round(side * scale), 1) for side in image.shape[1::-1]]
            image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        yield file.stem, to_input(model, image), image


def save(figure: Figure, path: Path) -> None:
    """Write a picture; the file is complete or untouched."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        cfg = read_config(args.config)
        model = build_model(cfg, args.checkpoint)
        find_backbone(model)
        found = list(islice(samples(args.images, cfg, model, args.size), args.limit))
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    for name, inputs, image in track_iter_progress(found):
        figure = cluster_figure(
            image,
            trace(model, inputs),
            max_heads=args.heads,
            all_blocks=args.all_blocks,
            coloring=args.colors,
            merge=args.merge,
            opacity=args.opacity,
        )
        save(figure, args.out_dir / f"{name}.png")
    print(f"\n{len(found)} pictures in {args.out_dir}")


if __name__ == "__main__":
    main()
