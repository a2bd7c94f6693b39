"""Show how clusters changed over a training, from the hook's pictures.

Examples:
    python tools/visualize/epochs.py work_dirs/NAME --out-dir epochs
    python tools/visualize/epochs.py work_dirs/NAME --out-dir epochs --format gif
"""

import argparse

from cluenet_mm.cli import output_folder, positive
from cluenet_mm.files import WriteError
from cluenet_mm.guard import fail, run_tool
from cluenet_mm.inference.images import UnreadableImageError
from cluenet_mm.interpret.epochs import FORMATS, hook_pictures, write_epochs


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "work_dir", help="folder of a training with ClusterVisualizationHook"
    )
    parser.add_argument(
        "--out-dir", type=output_folder, required=True, help="folder for the results"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="png",
        help="a strip (png) or an animation (default: png)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        default=12,
        help="at most so many pictures an image, evenly spread (default: 12)",
    )
    return parser.parse_args()


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    try:
        found = hook_pictures(args.work_dir)
        for position, pictures in found.items():
            path = args.out_dir / f"clusters_{position}.{args.format}"
            write_epochs(pictures, path, args.limit)
            print(f"{path}: pictures: {min(len(pictures), args.limit)}")
    except (FileNotFoundError, UnreadableImageError, WriteError) as error:
        fail(error)
    return 0


if __name__ == "__main__":
    run_tool(main)
