"""Files that are complete or untouched, however their writing ends."""

import os
import platform
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = ["check_target", "replacing", "write_text"]


def check_target(path: str | os.PathLike, folder: bool = False) -> None:
    """Refuse early what could not be written in the end; nothing is made.

    Args:
        path: File to write, in a folder that need not exist yet.
        folder: It is a folder to write into.

    Raises:
        ValueError: It cannot be written; the message says why.
    """
    path = Path(path)
    if not folder and path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file")
    nearest = path if folder else path.parent
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ValueError(f"{path} cannot be written: {nearest} is a file, no folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}): {nearest} takes no files"
        ) from error


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that takes its place at the end.

    Args:
        path: Target file. Its folder is created; an old file is replaced at the end,
            and stays where the block raises.

    Yields:
        The name to write to. It keeps the suffix, by which writers of pictures choose
        their format, and differs between processes. What a killed process of this
        machine left in the folder is removed before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path.parent)
    writer = f"{_machine()}-{os.getpid()}"
    temporary = path.with_name(f".{path.stem}.{writer}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text in UTF-8; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@cache
def _machine() -> str:
    """Eight digits for the machine, or container, whose process numbers ours are."""
    space = Path("/proc/self/ns/pid")
    text = platform.node() + (os.readlink(space) if space.is_symlink() else "")
    return f"{zlib.crc32(text.encode()):08x}"


@cache  # once a folder and process: a folder may take thousands of files
def _remove_left_over(folder: Path) -> None:
    """Remove the temporary files of processes that have ended."""
    for path in folder.glob(f".*.{_machine()}-*.partial*"):
        writer = re.search(r"-(\d+)\.partial[^/]*$", path.name)
        if writer and not _is_running(int(writer[1])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True
