"""Files that are complete or untouched, however their writing ends."""

import errno
import hashlib
import os
import platform
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = [
    "NO_ROOM",
    "WriteError",
    "atomic_write",
    "check_writable",
    "path_inside",
    "write_text",
]

# Of errors that are about the disk, not about one file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# A longer name gives its temporary file a digest, so as not to be longer than file
# systems allow (255 bytes).
_LONG_NAME = 200


class WriteError(OSError):
    """A file that cannot be written; the message is one line with its path.

    Args:
        path: The file.
        cause: Why.
    """

    def __init__(self, path: str | os.PathLike, cause: OSError) -> None:
        self.path = Path(path)
        self.reason = getattr(cause, "reason", cause.strerror) or str(cause)
        super().__init__(f"cannot write {path}: {self.reason}")
        self.errno = cause.errno


def check_writable(path: str | os.PathLike, folder: bool = False) -> None:
    """Refuse early what could not be written in the end; nothing is made.

    Args:
        path: File to write, in a folder that need not exist yet.
        folder: It is a folder to write into.

    Raises:
        ValueError: It cannot be written; the message says why.
    """
    path = Path(path)
    try:
        if not folder and path.is_dir():
            raise ValueError(f"{path} is a folder: give the name of a file")
        if not folder and path.exists() and not path.is_file():
            raise ValueError(f"{path} is a device: give the name of a file")
        nearest = path if folder else path.parent
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            raise ValueError(
                f"{path} cannot be written: {nearest} is a file, no folder"
            )
        path.exists()  # or its name is too long
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}): {nearest} takes no files"
        ) from error


def path_inside(folder: str | os.PathLike, name: str | os.PathLike) -> Path:
    """A path below a folder for a name that comes from data.

    Args:
        folder: Where files are written.
        name: What an annotation calls a file. It may have folders; roots and ``..``,
            which would lead out of ``folder``, are dropped.

    Raises:
        ValueError: Nothing is left of the name.

    Examples:
        >>> path_inside("out", "../a/./b.png").as_posix()
        'out/a/b.png'
    """
    parts = Path(os.path.normpath(name)).parts
    kept = [p for p in parts if p != os.pardir and not Path(p).is_absolute()]
    if not kept or kept == [os.curdir]:
        raise ValueError(f"{os.fspath(name)!r} is no name for a file")
    return Path(folder, *kept)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that takes its place at the end.

    Args:
        path: Target file. Its folder is created; an old file is replaced at the end,
            and stays where the block raises.

    Yields:
        The name to write to. It keeps the suffix, by which writers of pictures choose
        their format, and differs between processes. What a killed process of this
        machine left in the folder is removed before.

    Raises:
        WriteError: The file cannot be written: no space, no permission, a name that is
            too long.
    """
    path = Path(path)
    stem = path.stem
    if len(os.fsencode(path.name)) > _LONG_NAME:
        stem = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    writer = f"{_machine()}-{os.getpid()}"
    temporary = path.with_name(f".{stem}.{writer}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(path.parent)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        at_fault = error.path if isinstance(error, WriteError) else error.filename
        ours = map(str, (None, path, temporary, *path.parents))
        if str(at_fault) not in ours:
            raise  # another file, which the block reads or writes
        raise WriteError(path, error) from error
    finally:
        with suppress(OSError):  # no folder, or too long a name: nothing was made
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text in UTF-8; see :func:`atomic_write`."""
    with atomic_write(path) as temporary:
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
