"""Parameters and multiply-accumulate operations (MACs) of configs, stage by stage.

One MAC is a multiplication and an addition in a matrix product or a convolution;
FLOPs are twice as many. `published` counts the operators of the dense official code
that a counter sees, which is how the tables of the papers count; `executed` counts what
this code does (cluenet_mm/flops.py tells the differences). What the heads of a
detector compute depends on the image: only their parameters are shown.
"""

import argparse
import json
from dataclasses import asdict

from cluenet_mm.cli import fail, output_file, side
from cluenet_mm.config import image_shape
from cluenet_mm.errors import one_line
from cluenet_mm.files import write_text
from cluenet_mm.flops import Part, count_config, open_config, total
from cluenet_mm.guard import run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", help="path or name of a config")
    parser.add_argument(
        "--shape",
        nargs=2,
        type=side,
        metavar=("H", "W"),
        help="image size (default: that of the test pipeline)",
    )
    parser.add_argument(
        "--json", type=output_file, help="write totals and parts to this file"
    )
    return parser.parse_args()


def show(config: str, shape: tuple[int, int], parts: list[Part]) -> None:
    """Print the table of one config."""
    print(f"{config}, {shape[0]}x{shape[1]} pixels, one image")
    print(f"{'part':<28}{'parameters':>14}{'published':>18}{'executed':>18}")
    for part in parts:
        print(
            f"{part.name:<28}{part.parameters:>14,}"
            f"{part.published / 1e6:>12,.1f} MMACs{part.executed / 1e6:>12,.1f} MMACs"
        )


def main() -> None:
    """Run the command line."""
    args = parse_args()
    models = []
    try:
        for config in args.configs:
            cfg = open_config(config)
            shape = tuple(args.shape or image_shape(cfg))
            parts = count_config(cfg, shape)
            parts.append(total(parts))
            show(config, shape, parts)
            sums = asdict(parts[-1])
            del sums["name"]
            entry = {"config": config, "shape": shape, **sums}
            models.append({**entry, "parts": [asdict(part) for part in parts[:-1]]})
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    except (AssertionError, RuntimeError) as error:
        fail(f"cannot count {config} on an image of 3 x {shape}: {one_line(error)}")
    if args.json:
        write_text(args.json, json.dumps({"models": models}, indent=1) + "\n")


if __name__ == "__main__":
    run_tool(main)
