"""How well the cells of native segmentation follow objects, stage by stage.

A stage's cells are the pixels that share a point of its map along the memberships of a
network's poolings. Beside them stand the cells by place, half a row and column a stage:
squares. A network is given as NAME=CONFIG[:WEIGHTS]; without weights it is untrained.

Example:
    python tools/dev/native_cells.py --data cluenet/native_digits.py \
        untrained=cluenet/native_digits.py trained=cluenet/native_digits.py:a.pth \
        --json docs/results/native_cells.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS, init_default_scope
from torch import nn
from torch.nn import functional as F

from cluenet_mm.checkpoint import load_checkpoint, load_weights
from cluenet_mm.files import write_text
from cluenet_mm.flops import build, open_config
from cluenet_mm.interpret.pixels import to_input
from cluenet_mm.interpret.quality import SegmentationScores
from cluenet_mm.interpret.trace import Trace, trace


def by_place(maps: Trace, stage: int) -> np.ndarray:
    """Cells ``(H, W)`` of a stage if every point went to half its row and column."""
    points = maps.pixel_points()[0]
    row, column = points // maps.sizes[0][1], points % maps.sizes[0][1]
    step = 2**stage
    return (row // step * maps.sizes[stage][1] + column // step).numpy()


def nearness(maps: Trace, stage: int) -> float:
    """Part of the points that join one of the 3 x 3 cells around their place."""
    pool = maps.pools[stage - 1]
    rows, columns = (torch.arange(side) // 2 for side in pool.shape[1:])
    width = maps.sizes[stage][1]
    row, column = pool.div(width, rounding_mode="floor"), pool % width
    near = ((row - rows[:, None]).abs() <= 1) & ((column - columns).abs() <= 1)
    return float(near.float().mean())


def measure(name: str, model: nn.Module, samples: list, side: int | None) -> list[dict]:
    """Scores of every stage behind the first, means over images."""
    own, place, near = {}, {}, {}
    for image, truth in samples:
        if side:
            image, truth = shrink(image, truth, side)
        picture = image.flip(0).permute(1, 2, 0).byte().numpy()  # RGB
        maps = trace(model, to_input(model, picture)).to("cpu")
        for stage in range(1, len(maps.sizes)):
            cells = maps.cells(stage, "image")[0].numpy()
            for found, segments in ((own, cells), (place, by_place(maps, stage))):
                found.setdefault(stage, []).append(
                    SegmentationScores.of(segments, truth, background=0)
                )
            near.setdefault(stage, []).append(nearness(maps, stage))
    rows = []
    for stage, scores in own.items():
        mean, other = (SegmentationScores.mean(s) for s in (scores, place[stage]))
        rows.append(
            {
                "name": name,
                "stage": stage + 1,
                "cells": mean.segments,
                **numbers(mean),
                "place": numbers(other),
                "near": float(np.mean(near[stage])),
                "images": len(samples),
            }
        )
    return rows


def numbers(scores: SegmentationScores) -> dict[str, float]:
    """Those that do not depend on the number of cells alone."""
    names = ("accuracy", "undersegmentation", "boundary_recall", "best_iou")
    return {name: round(getattr(scores, name), 4) for name in names}


def shrink(image: torch.Tensor, truth: np.ndarray, side: int) -> tuple:
    """Image and labels with ``side`` rows and columns."""
    image = F.interpolate(image[None].float(), (side, side), mode="area")[0]
    labels = torch.from_numpy(truth)[None, None].float()
    return image, F.interpolate(labels, (side, side))[0, 0].long().numpy()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="NAME=CONFIG[:WEIGHTS]")
    parser.add_argument("--data", required=True, help="config of the validation data")
    parser.add_argument("--images", type=int, default=50, help="the first so many")
    parser.add_argument("--side", type=int, help="rows and columns to shrink them to")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    cfg = open_config(args.data)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    samples = []
    for i in range(min(args.images, len(dataset))):
        packed = dataset[i]
        truth = packed["data_samples"].gt_sem_seg.data[0].numpy().astype(np.int64)
        samples.append((packed["inputs"], np.where(truth == 255, -1, truth)))
    rows = []
    for network in args.networks:
        name, _, place = network.partition("=")
        config, _, weights = place.partition(":")
        other = open_config(config)
        torch.manual_seed(0)
        preprocessor = other.get("data_preprocessor")
        model = {"data_preprocessor": preprocessor, **other.model}
        model = build(model, other.default_scope)
        model.init_weights()
        if weights:
            load_weights(model, load_checkpoint(weights), weights)
        rows += measure(name, model.eval(), samples, args.side)
    for row in rows:
        print(row)
    write_text(args.json, json.dumps({"cells": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
