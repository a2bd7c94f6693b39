"""Convert a checkpoint of an official release to one of our classifiers.

Example:
    python tools/convert/official_weights.py cluenet_tiny.pth \
        checkpoints/cluenet_tiny.pth --arch cluenet
"""

import argparse
import sys

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.conversion import FAMILIES, convert_file


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="file that the release saved")
    parser.add_argument("target", help="file to write")
    parser.add_argument("--arch", required=True, choices=sorted(FAMILIES))
    args = parser.parse_args()
    try:
        meta = convert_file(args.source, args.target, args.arch)
    except (CheckpointError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{args.target}: {meta['family']} {meta['arch']}, "
        f"{meta['num_classes']} classes, {meta['num_parameters']:,} parameters"
    )


if __name__ == "__main__":
    main()
