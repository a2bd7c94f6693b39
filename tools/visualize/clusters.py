"""Draw the clusters of every stage over images, one PNG an image.

Examples:
    python tools/visualize/clusters.py photo.jpg CONFIG CHECKPOINT --out-dir clusters
    python tools/visualize/clusters.py val CONFIG CHECKPOINT --out-dir clusters
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.engine import build_model
from cluenet_mm.engine.cli import fail, find_config
from cluenet_mm.interpret import cluster_panel, find_backbone, trace

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
PANEL_SIDE = 224


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "images", help="a file, a folder, or `val` for samples of the config's data set"
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument("--out-dir", required=True, help="folder for the pictures")
    parser.add_argument("--limit", type=int, default=8, help="at most so many images")
    parser.add_argument(
        "--heads", type=int, default=1, help="at most so many heads a stage"
    )
    return parser.parse_args()


def image_batches(images: str, cfg: Config) -> Iterator[tuple[str, dict]]:
    """Name and data batch of every image.

    Args:
        images: File, folder or ``val``.
        cfg: Config of the model and its data sets.

    Yields:
        A name for the picture and a batch of one for the data preprocessor.

    Raises:
        FileNotFoundError: If there is no such file, or no image in the folder.
        ValueError: If a file cannot be decoded.
    """
    if images == "val":
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        # Data sets are sorted by class: a stride over all of them shows many.
        for i in range(len(dataset)):
            yield f"val_{i:05d}", pseudo_collate([dataset[i * 37 % len(dataset)]])
        return
    source = Path(images)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    files = [f for f in files if f.is_file() and f.suffix.lower() in SUFFIXES]
    if not files:
        raise FileNotFoundError(f"{images} is no image and no folder that holds one")
    preprocessor = cfg.get("data_preprocessor") or cfg.model.data_preprocessor
    flips = preprocessor.get("to_rgb") or preprocessor.get("bgr_to_rgb")
    for file in files:
        image = mmcv.imread(file)  # BGR
        if image is None:
            raise ValueError(f"{file} cannot be decoded: it is damaged or no image")
        if not flips:
            image = mmcv.bgr2rgb(image)
        yield file.stem, {"inputs": [torch.from_numpy(image).permute(2, 0, 1)]}


def draw(model: nn.Module, inputs: Tensor, max_heads: int) -> plt.Figure:
    """Image and cluster maps as one figure: a row a head, a column a stage.

    Every stage is drawn on the points that the embedding made: a point has the colour
    of the cluster that it ended up in, by way of the poolings in between.

    Args:
        model: Model with a clustering backbone.
        inputs: ``(1, 3, H, W)``, normalised by the model's data preprocessor.
        max_heads: Rows at most.

    Returns:
        The figure.
    """
    preprocessor = model.data_preprocessor
    pixels = (inputs * preprocessor.std + preprocessor.mean)[0].permute(1, 2, 0)
    image = pixels.round().clamp(0, 255).byte().cpu().numpy()
    scale = max(PANEL_SIDE // max(image.shape[:2]), 1)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)

    maps = trace(model, inputs)
    rows = min(max(index.size(1) for index in maps.blocks.values()), max_heads)
    columns = len(maps.blocks) + 1
    aspect = image.shape[0] / image.shape[1]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.2 * columns, (2.2 * aspect + 0.3) * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.axis("off")
    axes[0, 0].imshow(image)
    axes[0, 0].set_title("input", fontsize=9)
    for stage in maps.blocks:
        index = maps.clusters(stage)[0].cpu().numpy()
        for head in range(min(len(index), rows)):
            axis = axes[head, stage + 1]
            axis.imshow(cluster_panel(image, index[head]))
            which = f", head {head + 1}" if rows > 1 else ""
            count = len(np.unique(index[head]))
            axis.set_title(f"stage {stage + 1}{which}: {count} clusters", fontsize=9)
    return figure


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        cfg = Config.fromfile(find_config(args.config))
        model = build_model(cfg, args.checkpoint)
        find_backbone(model)
        batches = list(islice(image_batches(args.images, cfg), args.limit))
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, batch in track_iter_progress(batches):
        inputs = model.data_preprocessor(batch, training=False)["inputs"]
        figure = draw(model, inputs, args.heads)
        figure.savefig(out_dir / f"{name}.png", dpi=110)
        plt.close(figure)
    print(f"\n{len(batches)} pictures in {out_dir}")


if __name__ == "__main__":
    main()
