r"""Export a model to ONNX, for onnxruntime and whatever else reads it.

The task is the config's. The input `image` is a batch (N, 3, H, W) of float images,
normalized; the file's metadata say how (mean, std, channel_order). Its outputs are

  classification   scores (N, classes), a softmax
  segmentation     logits (N, classes, H, W) and labels (N, H, W)
  detection        p2, p3, ...: the maps of backbone and neck, without the heads

The file is run in onnxruntime and compared with PyTorch before it takes its name.

Example: export_onnx.py cluenet/cls_cifar100 epoch_105.pth cluenet.onnx --dynamic
"""

import argparse
from pathlib import Path

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import add_cfg_options, fail, parse_arguments, positive, side
from cluenet_mm.config import read_config
from cluenet_mm.deploy import export_onnx
from cluenet_mm.guard import run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="weights of that config")
    parser.add_argument("out", type=Path, help="file to write, *.onnx")
    parser.add_argument(
        "--size",
        type=side,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the images (default: what the config tests with)",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=1, help="images in a batch (default: 1)"
    )
    parser.add_argument(
        "--dynamic", action="store_true", help="leave batch, height and width open"
    )
    add_cfg_options(parser)
    return parse_arguments(parser)


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        cfg = read_config(args.config, args.cfg_options)
        exported = export_onnx(
            cfg,
            args.checkpoint,
            args.out,
            size=args.size and tuple(args.size),
            batch_size=args.batch_size,
            dynamic=args.dynamic,
        )
    except (CheckpointError, OSError, ValueError) as error:
        fail(error)
    print(f"{exported.path}: {exported.metadata['task']}")
    print(f"image {exported.metadata['input_size']} -> {', '.join(exported.outputs)}")
    print(f"distance to PyTorch, relative: {exported.distance:.1e}")
    return 0


if __name__ == "__main__":
    run_tool(main)
