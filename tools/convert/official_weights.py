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
    parser.add_argument(
        "--num-heads",
        type=int,
        nargs="+",
        metavar="N",
        help="heads per stage, for weights of none of the released variants",
    )
    parser.add_argument(
        "--backbone-only",
        action="store_true",
        help="leave the classifier out, for init_cfg=dict(type='Pretrained', "
        "checkpoint=..., prefix='backbone.')",
    )
    args = parser.parse_args()
    num_heads = tuple(args.num_heads) if args.num_heads else None
    try:
        meta = convert_file(
            args.source, args.target, args.arch, num_heads, args.backbone_only
        )
    except (CheckpointError, OSError) as error:
        sys.exit(f"error: {error}")
    classes = f"{meta['num_classes']} classes, " if meta["num_classes"] else ""
    print(
        f"{args.target}: {meta['family']} {meta['arch']}, {classes}"
        f"{meta['num_parameters']:,} parameters"
    )
    for name, value in meta["options"].items():
        print(f"its config needs model.backbone.{name}={value!r}")


if __name__ == "__main__":
    main()
