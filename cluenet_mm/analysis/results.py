"""Files of results."""

import json
from pathlib import Path

# By kind: what stands in a file beside its list, and in every entry of the list.
KEYS = {
    "cases": ({"settings", "versions"}, {"label", "mode", "shape", "batch"}),
    "steps": (
        {"config", "device", "threads", "torch", "shape", "batch", "amp"},
        {"impl"},
    ),
    "models": (set(), {"config", "shape", "parameters", "published", "executed"}),
    "runs": (set(), {"config", "backbone", "length", "device", "metrics"}),
}


def read_results(path: Path, kind: str = "cases") -> dict:
    """Read what a tool wrote with ``--json``.

    Args:
        path: The file.
        kind: ``cases`` of tools/analysis/benchmark.py, ``steps`` of train_memory.py,
            ``models`` of get_flops.py or ``runs`` of collect_runs.py and of
            tools/reproduce/cifar100.py.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no file of results of that kind.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        beside, inside = KEYS[kind]
        whole = results.keys() >= beside
        if whole and all(entry.keys() >= inside for entry in results[kind]):
            return results
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} holds no results with a list of {kind!r}")


def by_side(results: dict) -> dict[str, dict[str, dict]]:
    """Cases of tools/analysis/benchmark.py: of every side, the one of each mode.

    Raises:
        ValueError: There are none, or more of a side than one image size.
    """
    if not results["cases"]:
        raise ValueError("the results hold no case")
    sides: dict[str, dict[str, dict]] = {}
    for case in results["cases"]:
        side = sides.setdefault(case["label"], {})
        if side.setdefault(case["mode"], case) is not case:
            raise ValueError(
                f"{case['label']} was measured twice with mode {case['mode']}; measure "
                "one image size and every backbone once"
            )
    return sides
