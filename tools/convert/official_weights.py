"""Convert a checkpoint of an official release to one of our classifiers.

Example:
    python tools/convert/official_weights.py cluenet_tiny.pth \
        checkpoints/cluenet_tiny.pth --arch cluenet
"""

import argparse

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.config import read_config
from cluenet_mm.conversion import FAMILIES, convert_file
from cluenet_mm.guard import fail, run_tool


def arch_of(config: str) -> str | dict:
    """The architecture that a config gives its backbone."""
    try:
        return read_config(config).to_dict()["model"]["backbone"]["arch"]
    except (KeyError, TypeError):
        raise ValueError(f"config {config} has no model.backbone.arch") from None


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="file that the release saved")
    parser.add_argument("target", help="file to write")
    parser.add_argument("--arch", required=True, choices=sorted(FAMILIES))
    parser.add_argument(
        "--config",
        help="config of a classifier whose backbone has the size of the weights, where "
        "that is none of the released variants",
    )
    parser.add_argument(
        "--backbone-only",
        action="store_true",
        help="leave the classifier out, for init_cfg=dict(type='Pretrained', "
        "checkpoint=..., prefix='backbone.')",
    )
    args = parser.parse_args()
    try:
        arch = arch_of(args.config) if args.config else None
        meta = convert_file(
            args.source, args.target, args.arch, arch, args.backbone_only
        )
    except (CheckpointError, OSError, ValueError) as error:
        named = "" if args.source in str(error) else f"{args.source}: "
        fail(f"{named}{error}")
    classes = f"{meta['num_classes']} classes, " if meta["num_classes"] else ""
    print(
        f"{args.target}: {meta['family']} {meta['arch']}, {classes}"
        f"{meta['num_parameters']:,} parameters"
    )
    for name, value in meta["options"].items():
        print(f"its config needs model.backbone.{name}={value!r}")


if __name__ == "__main__":
    run_tool(main)
