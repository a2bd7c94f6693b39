"""Parameters and multiply-accumulate operations (MACs) of a config, stage by stage.

One MAC is a multiplication and an addition in a matrix product or a convolution;
FLOPs are twice as many. `published` counts the operators of the dense official code
that a counter sees, which is how the tables of the papers count; `executed` counts what
this code does (cluenet_mm/analysis/macs.py tells the differences). What the heads of a
detector compute depends on the image: only their parameters are shown.
"""

import argparse
import sys

from cluenet_mm.analysis.macs import count_config, total
from cluenet_mm.analysis.models import image_shape, open_config
from cluenet_mm.engine.cli import fail


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument(
        "--shape",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="image size (default: that of the test pipeline)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        cfg = open_config(args.config)
        shape = tuple(args.shape or image_shape(cfg))
        parts = count_config(cfg, shape)
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    print(f"{args.config}, {shape[0]}x{shape[1]} pixels, one image")
    print(f"{'part':<28}{'parameters':>14}{'published':>18}{'executed':>18}")
    for part in [*parts, total(parts)]:
        print(
            f"{part.name:<28}{part.parameters:>14,}"
            f"{part.published / 1e6:>12,.1f} MMACs{part.executed / 1e6:>12,.1f} MMACs"
        )


if __name__ == "__main__":
    sys.exit(main())
