r"""Images per second and peak memory of networks, side by side.

A side is a config with an implementation of the clustering primitives, or an exported
ONNX file in onnxruntime. Every side is measured in fresh processes, one at a time and
in turns (A B A B ...), by torch.utils.benchmark: a process may keep a speed of its own
for as long as it lives. Shown are the median over the processes, of the medians in
each, and the slowest and the fastest process; ratios are to the first side.

  --what backbone  infer: a forward pass without gradients
                   train: forward and backward, the gradients of all parameters
  --what model     infer: the part that tools/deploy/export_onnx.py exports
                   train: the same step with neck, heads and losses, on random labels

Memory is the peak of one step over the loaded model and its input. MACs per second are
the `published` MACs of tools/analysis/get_flops.py, of the forward pass also in
training, times the images per second. No optimizer runs.

Examples (a config is a path, a name such as cluenet/cls_imagenet_tiny, or mmpretrain::)
  benchmark.py cluenet/cls_imagenet_tiny --impl naive auto --batch 8 \
      --mode infer train --shape 224 224 --shape 512 512 --json result.json
  benchmark.py cluenet/cls_imagenet_tiny fec/cls_imagenet_small \
      mmpretrain::poolformer/poolformer-s12_32xb128_in1k.py --batch 8
  benchmark.py cluenet/cls_imagenet_tiny --what model --onnx cluenet.onnx --batch 8
"""

import argparse
import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cluenet_mm.benchmark import measure_in_turns, sides_of
from cluenet_mm.cli import fail, output_file, positive
from cluenet_mm.config import image_shape
from cluenet_mm.files import write_text
from cluenet_mm.flops import open_config
from cluenet_mm.guard import run_tool
from cluenet_mm.ops import IMPLEMENTATIONS

PACKAGES = ("torch", "triton", "mmengine", "mmcv", "mmpretrain", "cluenet_mm")
ROW = "{:<6}{:>10}{:>6}  {:<34}{:>10}{:>20}{:>12}{:>10}"


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", help="paths or names of configs")
    parser.add_argument("--what", choices=["backbone", "model"], default="backbone")
    parser.add_argument(
        "--mode", nargs="+", choices=["infer", "train"], default=["infer"]
    )
    parser.add_argument(
        "--impl",
        nargs="+",
        choices=IMPLEMENTATIONS,
        default=["auto"],
        help="implementations of the networks that cluster (default: auto)",
    )
    parser.add_argument(
        "--onnx", metavar="FILE", help="the exported first config, for --what model"
    )
    parser.add_argument(
        "--shape",
        action="append",
        nargs=2,
        type=positive,
        metavar=("H", "W"),
        help="image size; may be repeated (default: that of the test pipeline)",
    )
    parser.add_argument(
        "--batch",
        type=lambda text: None if text == "max" else positive(text),
        default=1,
        help="images, or `max`: of each side the largest batch that fits into the "
        "memory of the GPU (default: 1)",
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cuda" if torch.cuda.is_available() else "cpu",
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const="bfloat16",
        choices=["bfloat16", "float16"],
        help="autocast (alone: bfloat16)",
    )
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument(
        "--with-cp", action="store_true", help="activation checkpointing in all blocks"
    )
    parser.add_argument(
        "--threads", type=positive, help="threads of the CPU (default: PyTorch's)"
    )
    parser.add_argument(
        "--seconds",
        type=duration,
        default=2.0,
        help="timed in each process; at least one step (default: 2)",
    )
    parser.add_argument(
        "--processes", type=positive, default=3, help="of every side (default: 3)"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the results"
    )
    args = parser.parse_args()
    if args.batch is None and args.device == "cpu":
        parser.error("--batch max needs a GPU: a CPU's memory has no such limit")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU")
    if args.onnx and (args.what, args.mode) != ("model", ["infer"]):
        parser.error("--onnx needs --what model --mode infer: that is what it holds")
    if args.onnx and not Path(args.onnx).is_file():
        parser.error(f"--onnx: {args.onnx} does not exist")
    return args


def duration(text: str) -> float:
    """Type of ``--seconds``."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0")
    return number


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def print_case(case: dict) -> None:
    """Print one row, and one for the ratio to the first side."""
    shape = "x".join(map(str, case["shape"]))
    head = [case["mode"], shape, case["batch"] or "max", case["label"]]
    if "error" in case:
        print(ROW.format(*head, "", "", "", ""), "error:", case["error"], flush=True)
        return
    low, high = case["images_per_second_range"]
    cells = [f"{case['images_per_second']:.2f}", f"({low:.2f} - {high:.2f})"]
    cells.append(f"{case['peak_memory_mib']:,.1f} MiB")
    macs = case.get("macs_per_second")
    print(ROW.format(*head, *cells, f"{macs / 1e9:.1f} G" if macs else ""), flush=True)
    if found := case.get("ratio"):
        low, high = found["images_per_second_range"]
        cells = [f"{found['images_per_second']:.2f} x", f"({low:.2f} - {high:.2f})"]
        for name in ("peak_memory_mib", "macs_per_second"):
            cells.append(f"{found[name]:.3g} x" if name in found else "")
        print(ROW.format("", "", "", "  to the first side", *cells), flush=True)


def main() -> int:
    """Run the command line and return its exit status: 1 if a case failed."""
    args = parse_args()
    try:
        sides = sides_of(args.configs, args.impl, args.what, args.onnx)
        shapes = args.shape or [image_shape(open_config(args.configs[0]))]
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    names = ("what", "device", "amp", "compile", "with_cp", "threads", "seconds")
    settings = {name: getattr(args, name) for name in (*names, "processes")}
    results = {"settings": settings, "versions": versions(), "cases": []}
    header = ["mode", "shape", "batch", "side", "images/s", "lowest - highest"]
    print(ROW.format(*header, "memory", "MACs/s"), flush=True)
    for mode in args.mode:
        for shape in shapes:
            case = {"mode": mode, "shape": list(shape), "batch": args.batch}
            cases = [{**side, **case} for side in sides]
            results |= measure_in_turns(cases, settings)
            for case in cases:
                print_case(case)
            results["cases"] += cases
            if args.json:  # after every case: an interruption loses one at most
                write_text(args.json, json.dumps(results, indent=1) + "\n")
    if "device" in results:
        print(f"{results['device']}, {results['threads']} threads")
        print(f"memory: {results['memory']}")
    print(", ".join(f"{k} {v}" for k, v in results["versions"].items()))
    return int(any("error" in case for case in results["cases"]))


if __name__ == "__main__":
    run_tool(main, "the cases above are complete")
