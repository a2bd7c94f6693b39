"""Files of results: complete or untouched."""

import json
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file so that an interruption leaves the old one.

    Args:
        path: Its folder is created where it is missing.
        text: The content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_results(path: Path, kind: str = "cases") -> dict:
    """Read what a tool wrote with ``--json``.

    Args:
        path: The file.
        kind: ``cases`` of tools/analysis/benchmark.py, ``models`` of get_flops.py or
            ``runs`` of collect_runs.py.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no file of results of that kind.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(results[kind], list):
            return results
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} holds no results with a list of {kind!r}")
