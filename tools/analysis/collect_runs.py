"""Write what training runs reached into one file of results.

Example:
    python tools/analysis/collect_runs.py work_dirs/fec/* --json docs/results/fec.json
"""

import argparse
import json
import sys
from pathlib import Path

from cluenet_mm.analysis.runs import read_run
from cluenet_mm.engine.cli import fail, output_file
from cluenet_mm.files import write_text


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dirs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--json", type=output_file, required=True, help="file to write")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        runs = [read_run(work_dir) for work_dir in args.work_dirs]
    except (OSError, ValueError) as error:
        fail(error)
    for run in runs:
        last = run["metrics"][-1]
        print(f"{run['config']} {run['backbone']} seed {run['seed']}: {last}")
    write_text(args.json, json.dumps({"runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
