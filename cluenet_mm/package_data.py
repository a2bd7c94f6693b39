"""Paths of the configs and tools that ship with the package.

An installed copy keeps them in ``cluenet_mm/.mim``; a checkout that was put on the
module path without an installation has them beside the package.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

__all__ = ["config_name", "config_names", "config_path", "data_path", "tool_path"]

_CLOSEST = 4


def config_names() -> list[str]:
    """Names of all configs that can be run, such as ``cluenet/cls_digits.py``.

    The building blocks in ``_base_`` are not listed, although ``config_path`` finds
    them too.
    """
    names = sorted(_files("configs", "*.py"))
    return [name for name in names if not name.startswith("_base_/")]


def config_name(path: str | Path) -> str | None:
    """Name of a file among the configs that ship with the package, if it is one."""
    path = Path(path).resolve()
    files = _files("configs", "*.py").items()
    return next((name for name, file in files if file == path), None)


def config_path(name: str) -> Path:
    """Path of a config by its name below ``configs/``.

    Args:
        name: For example ``"cluenet/cls_digits.py"``; the suffix may be left out.

    Raises:
        FileNotFoundError: No config has this name; the message lists similar ones.
    """
    files = _files("configs", "*.py")
    for known in (name, f"{name}.py"):
        if known in files:
            return files[known]
    raise FileNotFoundError(
        f"cannot find a config named {name!r}; {_close_to(name, config_names())}. "
        "`python -m cluenet_mm config` lists all"
    )


def tool_path(name: str) -> Path:
    """Path of a tool by its name below ``tools/``, such as ``"train.py"``.

    Raises:
        FileNotFoundError: No tool has this name; the message lists similar ones.
    """
    files = _files("tools", "*.[ps][yh]")
    if name not in files:
        raise FileNotFoundError(
            f"cannot find a tool named {name!r}; {_close_to(name, files)}"
        )
    return files[name]


def data_path(name: str) -> Path:
    """Path of a file or folder of the package data, such as ``"model-index.yml"``."""
    package = Path(__file__).resolve().parent
    shipped = package / ".mim" / name
    return shipped if shipped.exists() else package.parent / name


def _files(kind: str, pattern: str) -> dict[str, Path]:
    """Files of a kind by their names with forward slashes."""
    folder = data_path(kind).resolve()
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob(pattern)}


def _close_to(name: str, known: Iterable[str]) -> str:
    alike = [other for other in known if Path(other).stem == Path(name).stem]
    alike += get_close_matches(name, known, n=_CLOSEST, cutoff=0.0)
    return "the closest are " + ", ".join(list(dict.fromkeys(alike))[:_CLOSEST])
