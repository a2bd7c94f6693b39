"""What a training run reached, read from the files that MMEngine leaves."""

import json
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config

# What a log line of training holds beside losses.
_BOOKKEEPING = {"data_time", "time", "step", "epoch", "iter", "lr", "memory"}


def read_run(work_dir: Path) -> dict[str, Any]:
    """Read the work directory of one run, resumed or not.

    Args:
        work_dir: What ``tools/train.py --work-dir`` wrote.

    Returns:
        ``config`` (name of its file), ``backbone`` (class), ``seed``, ``device`` and
        ``pytorch`` of the last start, ``length`` of training up to the last evaluation
        in words, ``hours`` spent in training steps, ``loss`` (pairs of iteration and
        training loss) and ``metrics`` (a dict with ``step`` for every evaluation).

    Raises:
        FileNotFoundError: If the folder holds no run.
        ValueError: If a run in it has never been evaluated.
    """
    starts = sorted(work_dir.glob("*/vis_data/scalars.json"))
    if not starts:
        raise FileNotFoundError(f"{work_dir} holds no run: no */vis_data/scalars.json")
    metrics: dict[int, dict] = {}
    losses: dict[int, tuple[float, float]] = {}
    for start in starts:  # a resumed run repeats what came after its checkpoint
        for line in start.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # a killed process was writing it
            record = json.loads(line)
            step = record["step"]
            if "loss" in record:
                losses[step] = (record["loss"], record["time"])
            else:
                names = sorted(record.keys() - _BOOKKEEPING)
                values = {name: round(record[name], 4) for name in names}
                metrics[step] = {"step": step, **values}
    if not metrics:
        raise ValueError(f"{work_dir} holds a run that has not been evaluated yet")
    cfg = Config.fromfile(starts[-1].with_name("config.py"))
    log = next(starts[-1].parents[1].glob("*.log")).read_text(errors="replace")
    by_epoch = cfg.train_cfg.get("by_epoch", "max_epochs" in cfg.train_cfg)
    unit = "epochs" if by_epoch else "iterations"
    steps = sorted(losses)
    spans = zip(steps, [0, *steps], strict=False)
    seconds = sum(losses[step][1] * (step - last) for step, last in spans)
    return {
        "config": next(work_dir.glob("*.py")).stem,
        "backbone": cfg.model.backbone.type.split(".")[-1],
        "seed": cfg.get("randomness", {}).get("seed"),
        "device": _first(r"^ +GPU 0: (.+)$", log) or "CPU",
        "pytorch": _first(r"^ +PyTorch: (.+)$", log),
        "length": f"{max(metrics):,} {unit}",
        "hours": round(seconds / 3600, 4),
        "loss": [(step, round(losses[step][0], 5)) for step in steps],
        "metrics": [metrics[step] for step in sorted(metrics)],
    }


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None
