r"""Peak memory of one training step of a whole model: classifier, detector, segmentor.

tools/analysis/benchmark.py measures backbones; this is the step of a training, with
neck, heads, losses and the gradients of all parameters, without the optimiser, on noise
with random labels. Every implementation of the clustering primitives gets a process of
its own; the memory of the loaded model and its input is not counted.

Example: train_memory.py cluenet/mask_rcnn_coco_tiny --shape 800 1344 \
             --impl naive auto --json memory.json
"""

import argparse
import json
import sys
from contextlib import closing

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from cluenet_mm.analysis.measure import (
    WARM_UP_SIDE,
    Worker,
    WorkerError,
    limit_memory,
    peak_memory,
)
from cluenet_mm.analysis.models import build_model, check_impl, open_config
from cluenet_mm.engine.cli import fail, output_file, positive
from cluenet_mm.files import write_text

OBJECTS = 8


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument(
        "--shape", nargs=2, type=positive, metavar=("H", "W"), required=True
    )
    parser.add_argument("--batch", type=positive, default=1)
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
        "--memory-limit",
        type=positive,
        metavar="MIB",
        help="what a step may take over the loaded model; over it is an error",
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the results"
    )
    return parser.parse_args()


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


class Training:
    """A model that is about to train; it lives in a :class:`Worker`.

    Args:
        job: The command line, and one of its implementations.
    """

    def __init__(self, job: tuple[argparse.Namespace, str]) -> None:
        self.args, impl = job
        cfg = open_config(self.args.config)
        if "data_preprocessor" in cfg:
            cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
        cfg.model.backbone.pop("init_cfg", None)
        # A line for every parameter otherwise.
        MMLogger.get_current_instance().setLevel("ERROR")
        self.scope = cfg.default_scope
        init_default_scope(self.scope)
        torch.manual_seed(0)  # the same proposals from every implementation
        model = build_model(cfg.model, self.scope, impl)
        model.init_weights()
        self.model = model.train().to(self.args.device)

    def measure(self) -> float:
        """Peak of one step, in MiB."""
        args = self.args
        self.step((WARM_UP_SIDE, WARM_UP_SIDE))  # loads the libraries
        self.model.zero_grad(set_to_none=True)
        if args.memory_limit:
            limit_memory(args.memory_limit, args.device)
        return peak_memory(lambda: self.step(tuple(args.shape)), args.device)

    def step(self, shape: tuple[int, int]) -> None:
        """Forward and backward."""
        model, args = self.model, self.args
        data = noise(self.scope, shape, args.batch, num_classes(model))
        if self.scope == "mmseg":  # which pads to the size of its crops
            model.data_preprocessor.size = shape
        model.zero_grad(set_to_none=True)
        data = model.data_preprocessor(data, training=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.amp):
            losses = model(**data, mode="loss")
        loss, _ = model.parse_losses(losses)
        loss.backward()


def measure(impl: str, args: argparse.Namespace) -> dict:
    """Measure one implementation in a process of its own."""
    with closing(Worker(Training, (args, impl))) as worker:
        try:
            return {"impl": impl, "peak_memory_mib": round(worker.ask("measure"), 1)}
        except WorkerError as error:
            return {"impl": impl, "error": str(error)}


def main() -> int:
    """Run the command line and return its exit status: 1 if a case failed."""
    args = parse_args()
    try:
        cfg = open_config(args.config)
        for impl in args.impl:
            check_impl(cfg.model.backbone, cfg.get("default_scope"), impl)
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    results = {
        "config": args.config,
        "shape": args.shape,
        "batch": args.batch,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "amp": args.amp,
        "torch": torch.__version__,
        "steps": [],
    }
    for impl in args.impl:
        step = measure(impl, args)
        results["steps"].append(step)
        if "error" in step:
            print(f"{impl:<10} error: {step['error']}", flush=True)
        else:
            print(f"{impl:<10}{step['peak_memory_mib']:>12,.0f} MiB", flush=True)
        if args.json:
            write_text(args.json, json.dumps(results, indent=1) + "\n")
    return int(any("error" in step for step in results["steps"]))


if __name__ == "__main__":
    sys.exit(main())
