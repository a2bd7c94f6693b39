"""Errors in one line, for command lines and for errors that wrap others."""

import os
import sys
import traceback

__all__ = ["is_first_process", "one_line", "one_line_with_place", "warn"]


def is_first_process() -> bool:
    """Whether this process speaks for all, before or after the process group."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((os.environ[n] for n in names if n in os.environ), "0") == "0"


def warn(message: str) -> None:
    """Print a warning on the first process."""
    if is_first_process():
        print(f"Warning: {message}", file=sys.stderr, flush=True)


def one_line(error: BaseException) -> str:
    """Kind and text of an error in one line.

    Of an import that failed, without MMEngine's list of the path.

    Examples:
        >>> one_line(KeyError("backbone"))
        "KeyError: 'backbone'"
    """
    if isinstance(error, ImportError) and error.__cause__:
        error = error.__cause__
    text = " ".join(str(error).replace("<unknown>, ", "").split())
    return f"{type(error).__name__}: {text}"


def one_line_with_place(error: BaseException) -> str:
    """The same, and the line of code that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{one_line(error)} ({last.filename}, line {last.lineno})"
