"""Signals that end a tool, also where code of others swallows them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from cluenet_mm.cli import for_each_image
from cluenet_mm.errors import is_first_process
from cluenet_mm.guard import raise_lost, run_tool

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def status_of(main):
    with pytest.raises(SystemExit) as end:
        run_tool(main)
    return end.value.code


@SIGNALS
def test_another_error_in_its_place_is_still_an_interruption(number, capsys):
    def main():
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:
            raise SyntaxError("cannot be formatted") from error

    assert status_of(main) == 128 + number
    assert "Interrupted" in capsys.readouterr().err


@SIGNALS
def test_one_that_is_lost_is_raised_where_the_tool_asks(number):
    reached = []

    def main():
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        raise_lost()
        reached.append("more work")

    assert status_of(main) == 128 + number
    assert not reached
    raise_lost()  # the next tool of a process begins without


@SIGNALS
def test_one_in_a_finalizer_ends_the_tool_in_one_line(number, capfd):
    class Garbage:
        def __del__(self):
            os.kill(os.getpid(), number)

    def main():
        Garbage()
        raise_lost()

    assert status_of(main) == 128 + number
    assert "Traceback" not in capfd.readouterr().err


@SIGNALS
@pytest.mark.parametrize("disguise", [None, TypeError("incompatible arguments")])
def test_images_end_where_a_library_hides_the_signal(number, disguise):
    """As matplotlib's C++ does: its error is not that of an image."""
    done = []

    def work(name, image):
        done.append(name)
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        if disguise:
            raise disguise

    def main():
        for_each_image([("first", 1), ("second", 2)], work)

    assert status_of(main) == 128 + number
    assert done == ["first"]


def test_names_of_files_in_any_encoding_are_printed():
    """In a locale such as en_US.UTF-8, whose streams are strict."""
    code = (
        "from cluenet_mm.guard import run_tool; run_tool(lambda: print('caf\\udce9'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "caf\\udce9\n"


def test_one_process_of_many_speaks(monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process()
    for name in ("OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        monkeypatch.setenv(name, "1")
        assert not is_first_process()
    monkeypatch.setenv("RANK", "0")
    assert is_first_process()
