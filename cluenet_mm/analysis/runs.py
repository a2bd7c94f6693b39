"""What a training run reached, read from the files that MMEngine leaves."""

import json
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..config_types import type_name

SCALARS = "*/vis_data/scalars.json"
# What a log line of training holds beside losses.
_BOOKKEEPING = {"data_time", "time", "step", "epoch", "iter", "lr", "memory"}


def read_records(work_dir: Path) -> list[dict[str, Any]]:
    """All that was logged in a work directory, by every start of its run in turn.

    A last line without its end, which a killed process leaves, is no record.
    """
    records = []
    for path in sorted(work_dir.glob(SCALARS)):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        records += [json.loads(line) for line in lines if line.endswith("\n")]
    return records


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
    starts = sorted(work_dir.glob(SCALARS))
    if not starts:
        raise FileNotFoundError(f"{work_dir} holds no run: no {SCALARS}")
    metrics: dict[int, dict] = {}
    losses: dict[int, tuple[float, float]] = {}
    for record in read_records(work_dir):  # a resumed run repeats some steps
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
        "backbone": type_name(cfg.model.backbone),
        "seed": cfg.get("randomness", {}).get("seed"),
        "device": _first(r"^ +GPU 0(?:,\d+)*: (.+)$", log) or "CPU",
        "pytorch": _first(r"^ +PyTorch: (.+)$", log),
        "length": f"{max(metrics):,} {unit}",
        "hours": round(seconds / 3600, 4),
        "loss": [(step, round(losses[step][0], 5)) for step in steps],
        "metrics": [metrics[step] for step in sorted(metrics)],
    }


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None
