"""How a tool ends: with a status and one line, whatever stops it."""

import io
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import torch

from .errors import is_first_process
from .files import NO_ROOM, WriteError
from .memory import keep_free_memory

__all__ = [
    "Terminated",
    "exit_status",
    "fail",
    "interruptible",
    "raise_lost",
    "run_tool",
]

_received: list[int] = []  # signals that end the tool


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers and containers send; handled like Ctrl-C."""


def run_tool(main: Callable[[], int | None], interrupted: str = "") -> NoReturn:
    """Run the ``main`` of a tool and end the process with the status that it returns.

    Ctrl-C and SIGTERM end it in one line, after all clean-up on the way; so does a disk
    that is full. What else ``main`` lets pass is a bug, of ours or of code that a
    config names, and keeps its traceback. Without a GPU, freed memory is kept for the
    next tensor.

    Args:
        main: Reads the command line and does the work.
        interrupted: What holds after an interruption, for its line.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    if not torch.cuda.is_available():
        keep_free_memory()
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, _unraisable
    for stream in (sys.stdout, sys.stderr):  # names of files may be in any encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.raiseExceptions = False  # a full disk would print a traceback a line
    try:
        with interruptible():
            status = main()
    except KeyboardInterrupt as error:
        status = exit_status(error)
        if is_first_process():
            line = f"Interrupted; {interrupted}" if interrupted else "Interrupted"
            print(f"\n{line}", file=sys.stderr)
    except WriteError as error:
        fail(error)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = f" {error.filename}" if error.filename else ""
        fail(f"cannot write{place}: {error.strerror}. Make room, and run it again.")
    finally:
        _received.clear()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    if number == signal.SIGTERM:  # a second one would cut the clean-up
        signal.signal(number, signal.SIG_IGN)
    _received.append(number)
    raise_lost()


def _unraisable(lost: object) -> None:
    """Print what a finalizer raised, unless :func:`raise_lost` raises it again."""
    if not (_received and isinstance(lost.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)


def raise_lost() -> None:
    """Raise the interruption again that code of others swallowed, as finalizers do.

    Raises:
        KeyboardInterrupt: There was one.
    """
    if _received:
        raise Terminated if _received[0] == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise an interruption that code of others turned into another error.

    MMEngine's formatting of configs does.
    """
    try:
        yield
    except Exception:
        raise_lost()
        raise


def exit_status(interruption: KeyboardInterrupt) -> int:
    """128 and the number of the signal that ended a tool, as a shell has it."""
    number = signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT
    return 128 + number


def fail(error: Exception | str) -> NoReturn:
    """End the script with status 1 and one line, from one of the processes."""
    raise SystemExit(f"error: {error}" if is_first_process() else 1)
