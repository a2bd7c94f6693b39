r"""Peak memory of one training step of a whole model: classifier, detector, segmentor.

tools/analysis/benchmark.py measures backbones; this is the step of a training, with
neck, heads, losses and the gradients of all parameters, without the optimiser, on noise
with random labels. Every implementation of the clustering primitives gets a process of
its own; the memory of the loaded model and its input is not counted.

Example: train_memory.py cluenet/mask_rcnn_coco_tiny --shape 800 1344 \
             --impl naive auto --json memory.json
"""

import argparse
import gc
import json
import resource
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from cluenet_mm.analysis.measure import (
    MIB,
    process_memory,
    reset_high_water_mark,
)
from cluenet_mm.analysis.models import build_model, check_impl, open_config
from cluenet_mm.analysis.results import write_text
from cluenet_mm.engine.cli import fail
from cluenet_mm.memory import return_free_memory

WARM_UP_SIDE = 64
OBJECTS = 8


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("--shape", nargs=2, type=int, metavar=("H", "W"), required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--impl", nargs="+", default=["auto"], help="implementations (default: auto)"
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cuda" if torch.cuda.is_available() else "cpu",
    )
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument(
        "--memory-limit", type=int, metavar="MIB", help="of a CPU; over it is an error"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    args = parser.parse_args()
    if min(*args.shape, args.batch) < 1:
        parser.error("shape and batch must be positive")
    return args


def noise(scope: str, shape: tuple[int, int], batch: int, classes: int) -> dict:
    """A batch of noise with random labels, as a pipeline packs it."""
    torch.manual_seed(0)
    height, width = shape
    meta = {
        "img_shape": shape,
        "ori_shape": shape,
        "pad_shape": shape,
        "batch_input_shape": shape,
        "scale_factor": (1.0, 1.0),
    }
    inputs, samples = [], []
    for _ in range(batch):
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        labels = torch.randint(0, classes, (OBJECTS,))
        if scope == "mmdet":
            from mmdet.structures import DetDataSample
            from mmdet.structures.mask import BitmapMasks

            corners = torch.rand(OBJECTS, 2, 2).sort(1).values
            boxes = (corners * torch.tensor([width, height])).flatten(1)
            masks = BitmapMasks(
                torch.randint(
                    0, 2, (OBJECTS, height, width), dtype=torch.uint8
                ).numpy(),
                height,
                width,
            )
            sample = DetDataSample(metainfo=meta)
            sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
            sample.ignored_instances = InstanceData(bboxes=torch.empty(0, 4))
        elif scope == "mmseg":
            from mmseg.structures import SegDataSample

            sample = SegDataSample(metainfo=meta)
            sample.gt_sem_seg = PixelData(
                data=torch.randint(0, classes, (1, height, width))
            )
        else:
            from mmpretrain.structures import DataSample

            sample = DataSample(metainfo=meta).set_gt_label(labels[:1])
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def num_classes(model: nn.Module) -> int:
    """Classes that a model tells apart."""
    for name in ("decode_head", "roi_head", "bbox_head", "head"):
        model = getattr(model, name, model)
    return model.num_classes


def step(model: nn.Module, scope: str, args: argparse.Namespace, shape: tuple) -> None:
    """Forward and backward."""
    data = noise(scope, shape, args.batch, num_classes(model))
    if scope == "mmseg":  # which pads to the size of its crops
        model.data_preprocessor.size = shape
    model.zero_grad(set_to_none=True)
    data = model.data_preprocessor(data, training=True)
    with torch.autocast(args.device, torch.bfloat16, enabled=args.amp):
        losses = model(**data, mode="loss")
    loss, _ = model.parse_losses(losses)
    loss.backward()


def measure(impl: str, args: argparse.Namespace) -> dict:
    """Measure one implementation in this process."""
    cfg = open_config(args.config)
    if "data_preprocessor" in cfg:
        cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
    cfg.model.backbone.pop("init_cfg", None)
    MMLogger.get_current_instance().setLevel("ERROR")  # a line a parameter otherwise
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)  # the same proposals from every implementation
    model = build_model(cfg.model, cfg.default_scope, impl)
    model.init_weights()
    model = model.train().to(args.device)
    side = (WARM_UP_SIDE, WARM_UP_SIDE)
    step(model, cfg.default_scope, args, side)  # loads the libraries
    model.zero_grad(set_to_none=True)
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        if args.memory_limit:
            most = int((process_memory("VmSize") + args.memory_limit) * MIB)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        gc.collect()
        return_free_memory()
        reset_high_water_mark()
        before = process_memory("VmRSS")
    step(model, cfg.default_scope, args, tuple(args.shape))
    if args.device == "cuda":
        torch.cuda.synchronize()
        peak = (torch.cuda.max_memory_allocated() - before) / MIB
    else:
        peak = process_memory("VmHWM") - before
    return {"peak_memory_mib": round(peak, 1)}


def serve(connection: Connection, impl: str, args: argparse.Namespace) -> None:
    """Main function of a process that measures."""
    try:
        result = measure(impl, args)
    except Exception as error:  # whatever a model raises is the result
        lines = str(error).strip().splitlines() or [type(error).__name__]
        result = {"error": lines[0]}
    connection.send(result)


def measure_apart(impl: str, args: argparse.Namespace) -> dict:
    """Measure one implementation in a process of its own."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, impl, args))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return {"error": "the process was killed: out of memory, as a rule"}
    finally:
        process.join()


def main() -> int:
    """Run the command line and return its exit status: 1 if a case failed."""
    args = parse_args()
    try:
        cfg = open_config(args.config)
        for impl in args.impl:
            check_impl(cfg.model.backbone, cfg.get("default_scope"), impl)
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    results = {
        "config": args.config,
        "shape": args.shape,
        "batch": args.batch,
        "device": device,
        "threads": torch.get_num_threads(),
        "amp": args.amp,
        "torch": torch.__version__,
        "cases": {},
    }
    for impl in args.impl:
        case = results["cases"][impl] = measure_apart(impl, args)
        if "error" in case:
            print(f"{impl:<10} error: {case['error']}", flush=True)
        else:
            print(f"{impl:<10}{case['peak_memory_mib']:>12,.0f} MiB", flush=True)
        if args.json:
            write_text(args.json, json.dumps(results, indent=1) + "\n")
    return int(any("error" in case for case in results["cases"].values()))


if __name__ == "__main__":
    sys.exit(main())
