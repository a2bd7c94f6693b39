"""Paths of the configs and tools that ship with the package.

An installed copy keeps them in ``cluenet_mm/.mim``; a checkout that was put on the
module path without an installation has them beside the package.
"""

from difflib import get_close_matches
from pathlib import Path

__all__ = ["config_names", "config_path", "tool_path"]


def config_names() -> list[str]:
    """Names of all configs that can be run, such as ``cluenet/cls_digits.py``.

    The building blocks in ``_base_`` are not listed, although ``config_path`` finds
    them too.
    """
    names = sorted(_files("configs", "*.py"))
    return [name for name in names if not name.startswith("_base_/")]


def config_path(name: str) -> Path:
    """Path of a config by its name below ``configs/``.

    Args:
        name: For example ``"cluenet/cls_digits.py"``; the suffix may be left out.

    Raises:
        FileNotFoundError: No config has this name; the message lists similar ones.
    """
    files = _files("configs", "*.py")
    return _pick("config", files, name if name.endswith(".py") else f"{name}.py")


def tool_path(name: str) -> Path:
    """Path of a tool by its name below ``tools/``, such as ``"train.py"``.

    Raises:
        FileNotFoundError: No tool has this name; the message lists similar ones.
    """
    return _pick("tool", _files("tools", "*.[ps][yh]"), name)


def _files(kind: str, pattern: str) -> dict[str, Path]:
    """Files of a kind by their names with forward slashes."""
    package = Path(__file__).resolve().parent
    shipped = package / ".mim" / kind
    folder = (shipped if shipped.is_dir() else package.parent / kind).resolve()
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob(pattern)}


def _pick(kind: str, files: dict[str, Path], name: str) -> Path:
    if name in files:
        return files[name]
    close = get_close_matches(name, files, n=5, cutoff=0.5)
    close += [known for known in files if Path(known).name == Path(name).name]
    hint = "close matches: " if close else "there are: "
    hint += ", ".join(dict.fromkeys(close or sorted(files)))
    raise FileNotFoundError(f"no {kind} is named {name!r}; {hint}")
