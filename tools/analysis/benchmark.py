r"""Images per second and peak memory of backbones, side by side in one run.

Every side gets fresh processes for every case (mode and shape), one after the other.
The peak memory over the loaded model and its input is taken during one step; then the
processes of the sides are timed in turns, A B A B, never two at once, so that a drift
of the machine meets all. Shown are the median over the processes, of the medians of
their rounds, and the slowest and the fastest process.
`train` is forward and backward of the backbone, without an optimiser. MACs per second
are the `published` MACs of tools/analysis/get_flops.py, of the forward pass also in
training, times the images per second. Ratios are to the first side; that of the speeds
is taken over neighbouring rounds, then as above.

Examples (a config is a path, a name such as cluenet/cls_imagenet_tiny, or mmpretrain::)
  benchmark.py cluenet/cls_imagenet_tiny --impl naive --vs auto --batch 8 \
      --mode infer train --shape 224 224 --shape 512 512 --json result.json
  benchmark.py mmpretrain::poolformer/poolformer-s12_32xb128_in1k.py \
      --vs-config cluenet/cls_imagenet_tiny fec/cls_imagenet_small --batch 8
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import torch

from cluenet_mm.analysis.compare import Side, measure
from cluenet_mm.analysis.measure import Settings
from cluenet_mm.analysis.models import image_shape
from cluenet_mm.engine.cli import fail, output_file, positive
from cluenet_mm.files import write_text

PACKAGES = ("torch", "triton", "mmengine", "mmcv", "mmpretrain", "cluenet_mm")
ROW = "{:<6}{:>10}{:>6}  {:<26}{:>10}{:>20}{:>12}{:>10}"


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
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
        type=batch_size,
        default=1,
        help="images, or `max`: of each side the largest batch that fits into the "
        "memory of the GPU (default: 1)",
    )
    parser.add_argument(
        "--mode", nargs="+", choices=["infer", "train"], default=["infer"]
    )
    parser.add_argument("--impl", help="implementation (default: the config's)")
    parser.add_argument(
        "--vs", metavar="IMPL", help="implementation of the other sides"
    )
    parser.add_argument(
        "--vs-config",
        nargs="+",
        metavar="CONFIG",
        help="configs of the other sides (default: the same)",
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
        "--with-cp",
        action="store_true",
        help="activation checkpointing in every block, on all sides",
    )
    parser.add_argument(
        "--threads", type=positive, help="threads of the CPU (default: PyTorch's)"
    )
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="time with an allocator that keeps freed memory (glibc on a CPU)",
    )
    parser.add_argument(
        "--memory-limit",
        type=positive,
        metavar="MIB",
        help="what a side may take over its loaded model, as on a smaller machine",
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=5,
        help="timed rounds of half a second, or of one step if that is longer "
        "(default: 5)",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=3,
        help="processes of every side, one after the other (default: 3)",
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the results"
    )
    args = parser.parse_args()
    if args.batch is None and args.device == "cpu":
        parser.error("--batch max needs a GPU: a CPU's memory has no such limit")
    return args


def batch_size(text: str) -> int | None:
    """A positive integer; ``None`` for ``max``."""
    return None if text == "max" else positive(text)


def sides_of(args: argparse.Namespace) -> list[Side]:
    """The sides that the command line asks for."""
    sides = [Side.open(args.config, args.impl)]
    if args.vs or args.vs_config:
        others = args.vs_config or [args.config]
        sides += [Side.open(config, args.vs) for config in others]
    if args.with_cp:
        for side in sides:
            side.cfg.model.backbone.with_cp = True
    return sides


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
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
    speed, memory = case["images_per_second"], case["peak_memory_mib"]
    macs = case["macs_per_second"] / 1e9
    spread = f"({low:.2f} - {high:.2f})"
    cells = [f"{speed:.2f}", spread, f"{memory:,.1f} MiB", f"{macs:.1f} G"]
    print(ROW.format(*head, *cells), flush=True)
    if ratio := case.get("ratio"):
        low, high = ratio["images_per_second_range"]
        speed, memory = ratio["images_per_second"], ratio["peak_memory_mib"]
        cells = [f"{speed:.2f} x", f"({low:.2f} - {high:.2f})"]
        cells.append("" if memory is None else f"{memory:.3f} x")
        cells.append(f"{ratio['macs_per_second']:.2f} x")
        print(ROW.format("", "", "", "  to the first side", *cells), flush=True)


def main() -> int:
    """Run the command line and return its exit status: 1 if a case failed."""
    args = parse_args()
    try:
        sides = sides_of(args)
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    settings = Settings(
        device=args.device,
        amp=args.amp,
        compile=args.compile,
        threads=args.threads,
        memory_limit=args.memory_limit,
        keep_memory=args.keep_memory,
        rounds=args.rounds,
        processes=args.processes,
    )
    shapes = [tuple(s) for s in args.shape or [image_shape(sides[0].cfg)]]
    chosen = {**asdict(settings), "with_cp": args.with_cp}
    results = {"settings": chosen, "versions": versions(), "cases": []}
    header = ["mode", "shape", "batch", "side", "images/s", "lowest - highest"]
    print(ROW.format(*header, "memory", "MACs/s"), flush=True)
    for mode in args.mode:
        for shape in shapes:
            cases, machine = measure(sides, mode, shape, args.batch, settings)
            for case in cases:
                print_case(case)
            results |= machine
            results["cases"] += cases
            if args.json:  # after every case: an interruption loses one at most
                write_text(args.json, json.dumps(results, indent=1) + "\n")
    if "device" in results:
        print(f"{results['device']}, {results['threads']} threads")
        print(f"memory: {results['memory']}")
    print(", ".join(f"{k} {v}" for k, v in results["versions"].items()))
    return int(any("error" in case for case in results["cases"]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the cases above are complete")
