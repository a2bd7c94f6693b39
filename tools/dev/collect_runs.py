"""Write what training runs reached into one file of results.

Example:
    python tools/dev/collect_runs.py work_dirs/fec/* --json docs/results/fec.json
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from cluenet_mm.config import type_name
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool

SCALARS = "*/vis_data/scalars.json"
# What a log line of training holds beside losses.
BOOKKEEPING = {"data_time", "time", "step", "epoch", "iter", "lr", "memory"}


def read_records(work_dir: Path) -> list[dict]:
    """All that was logged in a work directory, by every start of its run in turn.

    A last line without its end, which a killed process leaves, is no record.
    """
    records = []
    for path in sorted(work_dir.glob(SCALARS)):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        records += [json.loads(line) for line in lines if line.endswith("\n")]
    return records


def read_run(work_dir: Path) -> dict:
    """Read the work directory of one run, resumed or not.

    Args:
        work_dir: What ``tools/train.py --work-dir`` wrote.

    Returns:
        ``config`` (name of its file), ``backbone`` (class), ``weights`` (address or
        name of the file that it started from, empty for none), ``seed``, ``device`` and
        ``pytorch`` of the last start, ``length`` of training up to the last evaluation
        in words, ``hours`` spent in training steps, ``loss`` (pairs of iteration and
        training loss) and ``metrics`` (a dict with ``step`` for every evaluation).

    Raises:
        FileNotFoundError: If the folder holds no run.
        ValueError: If a run in it has never been evaluated.
    """
    starts = sorted(work_dir.glob(SCALARS))
    if not starts:
        raise FileNotFoundError(
            f"cannot read a run from {work_dir}: it has no {SCALARS}"
        )
    metrics: dict[int, dict] = {}
    losses: dict[int, tuple[float, float]] = {}
    for record in read_records(work_dir):  # a resumed run repeats some steps
        step = record["step"]
        if "loss" in record:
            losses[step] = (record["loss"], record["time"])
        else:
            names = sorted(record.keys() - BOOKKEEPING)
            values = {name: round(record[name], 4) for name in names}
            metrics[step] = {"step": step, **values}
    if not metrics:
        raise ValueError(f"cannot read a run from {work_dir}: never evaluated yet")
    cfg = Config.fromfile(starts[-1].with_name("config.py"))
    log = next(starts[-1].parents[1].glob("*.log")).read_text(errors="replace")
    by_epoch = cfg.train_cfg.get("by_epoch", "max_epochs" in cfg.train_cfg)
    unit = "epochs" if by_epoch else "iterations"
    steps = sorted(losses)
    spans = zip(steps, [0, *steps], strict=False)
    seconds = sum(losses[step][1] * (step - last) for step, last in spans)
    return {
        "config": next(work_dir.glob("*.py")).stem,
        "backbone": type_name(cfg.model.backbone),
        "weights": start_of(cfg),
        "seed": cfg.get("randomness", {}).get("seed"),
        "device": first(r"^ +GPU 0(?:,\d+)*: (.+)$", log) or "CPU",
        "pytorch": first(r"^ +PyTorch: (.+)$", log),
        "length": f"{max(metrics):,} {unit}",
        "hours": round(seconds / 3600, 4),
        "loss": [(step, round(losses[step][0], 5)) for step in steps],
        "metrics": [metrics[step] for step in sorted(metrics)],
    }


def start_of(cfg: Config) -> str:
    """Weights that a run started from, a resumed one excepted."""
    starts = cfg.model.backbone.get("init_cfg") or []
    starts = [starts] if isinstance(starts, Mapping) else starts
    found = [start["checkpoint"] for start in starts if "checkpoint" in start]
    if not cfg.get("resume") and cfg.get("load_from"):
        found = [cfg.load_from]
    if not found:
        return ""
    return found[0] if "://" in found[0] else Path(found[0]).name


def first(pattern: str, text: str) -> str | None:
    """The first group of the first match."""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dirs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    try:
        runs = [read_run(work_dir) for work_dir in args.work_dirs]
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for run in runs:
        last = run["metrics"][-1]
        print(f"{run['config']} {run['backbone']} seed {run['seed']}: {last}")
    write_text(args.json, json.dumps({"runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    run_tool(main)
