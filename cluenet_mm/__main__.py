"""The tools as commands: ``cluenet_mm train CONFIG``, ``python -m cluenet_mm train``.

A tool is found by its name, in a checkout and in an installed copy.
"""

import ast
import os
import runpy
import sys
from difflib import get_close_matches
from pathlib import Path

from .package_data import config_names, config_path, data_path

__all__ = ["commands", "main"]

_USAGE = """usage: cluenet_mm COMMAND [options]; COMMAND --help describes one

commands:"""
# Parts of others, which nobody starts.
_INNER = {"dist_run", "slurm_run"}
_CONFIG = "Print the path of a config, for _base_; without a name, all names."


def commands() -> dict[str, Path]:
    """Tools by the names of their commands."""
    folder = data_path("tools")
    found = [*folder.rglob("*.py"), *folder.rglob("*.sh")]
    return {
        path.stem: path
        for path in sorted(found)
        if "dev" not in path.relative_to(folder).parts and path.stem not in _INNER
    }


def main() -> int:
    """Run the command that the command line names, and return its exit status."""
    name, *words = sys.argv[1:] or ["--help"]
    known = commands()
    if name in ("-h", "--help"):
        print("\n".join([_USAGE, _row("config", _CONFIG), *_rows(known)]))
        return 0
    if name == "config":
        return _print_config(words)
    if name not in known:
        near = get_close_matches(name, [*known, "config"], 1, 0.0)[0]
        print(
            f"error: cluenet_mm has no command {name}; is {near} meant? "
            "cluenet_mm --help lists all",
            file=sys.stderr,
        )
        return 2
    path = known[name]
    if path.suffix == ".sh":
        os.environ.setdefault("PYTHON", sys.executable)
        os.execvp("bash", ["bash", str(path), *words])
    sys.argv[:] = [str(path), *words]
    runpy.run_path(str(path), run_name="__main__")
    return 0


def _print_config(words: list[str]) -> int:
    try:
        print("\n".join(map(str, map(config_path, words))) or "\n".join(config_names()))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _rows(known: dict[str, Path]) -> list[str]:
    rows = []
    for name, path in known.items():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            about = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        else:
            about = text.splitlines()[1].removeprefix("# ")
        rows.append(_row(name, " ".join(about.split())))
    return rows


def _row(name: str, about: str) -> str:
    return f"  {name:<18}{about}"


if __name__ == "__main__":
    sys.exit(main())
