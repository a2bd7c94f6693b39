"""Pictures of native segmentation: predictions beside each other, cells, one decision.

A network is given as NAME=CONFIG:WEIGHTS; the cells and the decision are those of the
last one.

Example:
    python tools/dev/native_pictures.py FPN=cluenet/semantic_fpn_digits.py:a.pth \
        native=cluenet/native_digits.py:b.pth --images 0 1 2 --out docs/images
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from cluenet_mm.checkpoint import load_checkpoint, load_weights
from cluenet_mm.flops import build, open_config
from cluenet_mm.interpret import cluster_panel, decision_figure, tracing


def open_network(place: str) -> tuple[str, nn.Module, dict]:
    """Name, model in evaluation mode, and config of NAME=CONFIG:WEIGHTS."""
    name, _, place = place.partition("=")
    config, _, weights = place.partition(":")
    cfg = open_config(config)
    model = build(cfg.model, cfg.default_scope)
    load_weights(model, load_checkpoint(weights), weights)
    return name, model.eval(), cfg


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="NAME=CONFIG:WEIGHTS")
    parser.add_argument("--images", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    networks = [open_network(place) for place in args.networks]
    cfg = networks[-1][2]
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    palette = np.array(dataset.metainfo["palette"], np.uint8)
    rows = []
    for i in args.images:
        sample = dataset[i]
        image = sample["inputs"].flip(0).permute(1, 2, 0).numpy()
        truth = sample["data_samples"].gt_sem_seg.data[0].numpy()
        panels = {"image": image, "truth": palette[truth]}
        for name, model, _ in networks:
            with torch.no_grad(), tracing(model) as traces:
                found = model.val_step(pseudo_collate([sample]))[0]
            panels[name] = palette[found.pred_sem_seg.data[0].numpy()]
        maps = traces[0].to("cpu")
        for stage in range(1, len(maps.sizes)):
            cells = maps.cells(stage, "image")[0].numpy()
            panels[f"cells, stage {stage + 1}"] = cluster_panel(image, cells)
        rows.append(panels)
    figure = Figure((1.5 * len(rows[0]), 1.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axes_row, panels in zip(grid, rows, strict=True):
        for axes, (title, picture) in zip(axes_row, panels.items(), strict=True):
            axes.imshow(picture)
            axes.set_axis_off()
            if axes in grid[0]:
                axes.set_title(title, fontsize=7)
    figure.savefig(args.out / "native_masks.png", dpi=90)
    # The pixel of an object that lies nearest to the middle of its pixels.
    label = np.unique(truth[truth > 0])[0]
    places = np.argwhere(truth == label)
    middle = np.abs(places - places.mean(0)).sum(1).argmin()
    pixel = tuple(int(side) for side in places[middle])
    decision_figure(image, maps, pixel).savefig(
        args.out / "native_decision.png", dpi=90
    )


if __name__ == "__main__":
    main()
