"""Start tools in processes that need not import the libraries first.

A server imports PyTorch and OpenMMLab once. Every tool is a fork of it with its own
directory, environment, session, signals, output and exit status.
"""

import atexit
import functools
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

import cluenet_mm
from cluenet_mm import tool_path

PRELOADED = (
    "cluenet_mm.runner",
    "mmdet.models",
    "mmpretrain.models",
    "mmseg.models",
    "skimage.segmentation",
    "sklearn.cluster",
)


@functools.cache
def context() -> BaseContext:
    """Where forks of the server start.

    The server has the environment of a tool: libraries look for a GPU at their import.
    """
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return found


class Process:
    """A started tool, in the manner of :class:`subprocess.Popen`.

    Args:
        words: The script and its arguments.
        folder: Its working directory.
        environment: Its environment, whole.
        merged: Whether what it prints to stderr goes to stdout.
    """

    def __init__(
        self, words: list[str], folder: Path, environment: dict, merged: bool = False
    ) -> None:
        self._outputs = tempfile.TemporaryDirectory()
        names = ("output", "output" if merged else "errors")
        self._paths = [Path(self._outputs.name, name) for name in names]
        self._process = context().Process(
            target=_run, args=(words, folder, environment, self._paths)
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; ``-n`` if signal ``n`` ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit status, ``None`` while it runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it to this process alone."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end: what it printed, and to stderr."""
        self._process.join(timeout)
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            raise TimeoutError(f"the tool ran longer than {timeout} s")
        return tuple(path.read_text(encoding="utf-8") for path in self._paths)


def environment() -> dict[str, str]:
    """That of a tool: the package is found, and no GPU."""
    here = Path(__file__).parent
    root = Path(cluenet_mm.__file__).parents[1]
    return {
        **os.environ,
        "PYTHON": sys.executable,  # what the launchers run
        "PYTHONPATH": os.pathsep.join([str(here), str(root)]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def run(tool: str, *words: object) -> subprocess.CompletedProcess:
    """Run a tool to its end."""
    command = [str(tool_path(tool)), *map(str, words)]
    process = Process(command, Path.cwd(), environment())
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_in_two(folder: Path, tool: str, *words: object) -> str:
    """Run a tool in two processes of one group, as torchrun would; what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [str(tool_path(tool)), *map(str, words), "--launcher", "pytorch"]
    started = []
    for rank in ("0", "1"):
        own = {**environment(), **group, "RANK": rank, "LOCAL_RANK": rank}
        started.append(Process(command, folder, own, merged=True))
    output = "".join(process.communicate(timeout=200)[0] for process in started)
    assert [process.returncode for process in started] == [0, 0], output
    return output


def _run(words: list[str], folder: Path, environment: dict, paths: list[Path]) -> None:
    """Become the process of a tool."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, path in enumerate(paths, start=1):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        os.dup2(os.open(path, flags), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Those of the tests, which multiprocessing hands on, would hide a missing one.
    roots = (sys.base_prefix, sys.prefix)
    installed = [p for p in sys.path if any(map(Path(p).is_relative_to, roots))]
    own = environment["PYTHONPATH"].split(os.pathsep)
    sys.path[:] = [str(Path(words[0]).parent), *own, *installed]
    sys.argv[:] = words
    sys.orig_argv[:] = [sys.executable, *words]
    atexit._clear()
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
