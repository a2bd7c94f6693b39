"""Speed and peak memory of one backbone, measured in a process of its own.

:class:`Worker` starts the process and asks it one thing at a time, so that the caller
can alternate between several workers and never has two of them computing at once.
"""

import gc
import platform
import re
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger

from ..memory import keep_free_memory, return_free_memory
from .models import build_model

MIB = 2**20
# A round lasts at least this long.
ROUND_SECONDS = 0.5
# Side of the image that loads the libraries before memory is measured.
WARM_UP_SIDE = 64
MAX_BATCH = 2**14


class WorkerError(RuntimeError):
    """A worker reported an error or ended; the message is one line."""


@dataclass(frozen=True)
class Settings:
    """What all workers of a run share.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        amp: Dtype of autocast, ``"bfloat16"`` or ``"float16"``, or ``None``.
        compile: Whether ``torch.compile`` is applied.
        threads: Threads of the CPU, or ``None`` for PyTorch's default.
        memory_limit: MiB that may be taken over the loaded model, or ``None``.
        keep_memory: Whether freed memory of the CPU is kept while steps are timed.
        rounds: Timed rounds of every worker.
        processes: Workers of every side, one after the other. A process may keep a
            speed of its own for as long as it lives, by where its memory happens to
            lie, so that rounds alone show too narrow a range.
    """

    device: str
    amp: str | None = None
    compile: bool = False
    threads: int | None = None
    memory_limit: int | None = None
    keep_memory: bool = False
    rounds: int = 5
    processes: int = 3


@dataclass(frozen=True)
class Job:
    """What a worker measures.

    Attributes:
        backbone: Config of the backbone.
        scope: Default scope of the config.
        impl: Implementation of the clustering primitives, or ``None``.
        mode: ``"infer"`` (forward, no gradient) or ``"train"`` (forward and backward
            with the gradients of all parameters; no optimiser).
        shape: Height and width.
        settings: What all workers share.
    """

    backbone: dict
    scope: str | None
    impl: str | None
    mode: str
    shape: tuple[int, int]
    settings: Settings


class Worker:
    """A process that holds a loaded model and measures it when asked.

    Args:
        load: Makes, in the process, the object whose methods :meth:`ask` calls, such
            as :class:`Bench`.
        job: What ``load`` is called with.
        grace: Seconds that the process gets to end by itself when it is closed.
    """

    def __init__(
        self, load: Callable[[Any], Any], job: object, grace: float = 0
    ) -> None:
        context = get_context("spawn")
        self._grace = grace
        self._connection, theirs = context.Pipe()
        arguments = (theirs, load, job)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, method: str, *args: object) -> Any:
        """Call a method of the worker's object and wait for the result.

        Raises:
            WorkerError: The method raised, or the process ended.
        """
        try:
            self._connection.send((method, args))
            result, error = self._connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise WorkerError(_ending(self.process.exitcode)) from None
        if error is not None:
            raise WorkerError(error)
        return result

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self.process.join(self._grace)
        self.process.kill()
        self.process.join()


class Bench:
    """The worker's side: a model on its device, and the measurements.

    Args:
        job: What to measure.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings = settings = job.settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(0)
        backbone = {k: v for k, v in job.backbone.items() if k != "init_cfg"}
        model = build_model(backbone, job.scope, job.impl)
        # A line for every parameter otherwise.
        MMLogger.get_current_instance().setLevel("WARNING")
        model.init_weights()
        model.train(job.mode == "train")  # returns nothing in OpenMMLab's backbones
        self._model = model.to(settings.device)
        self._run = torch.compile(self._model) if settings.compile else self._model
        self._images = torch.empty(0)
        self._repeats = 1
        if not settings.compile:  # it would be compiled for this size first
            self._load(1, tuple(min(WARM_UP_SIDE, side) for side in job.shape))
            try:
                self._step()
            except AssertionError:  # mmpretrain's Swin: no map smaller than a window
                self._load(1, job.shape)
                self._step()
        self._release()
        if settings.memory_limit is not None:
            limit_memory(settings.memory_limit, settings.device)

    def about(self) -> dict:
        """Name of the device, number of threads, how memory is measured."""
        if self.settings.device == "cuda":
            name, memory = torch.cuda.get_device_name(), "PyTorch's allocator"
        else:
            name, memory = _cpu_name(), "resident set, high-water mark of one step"
            if not reset_high_water_mark():
                memory = (
                    "resident set, high-water mark since the start of the process "
                    "(the kernel does not permit resetting it): an upper bound"
                )
        return {"device": name, "threads": torch.get_num_threads(), "memory": memory}

    def peak_memory(self, batch: int) -> float:
        """Peak over the loaded model and its input during one step, in MiB."""
        self._load(batch, self.job.shape)
        if self.settings.compile:
            self._step()
        self._model.zero_grad(set_to_none=True)
        return peak_memory(self._step, self.settings.device)

    def warm_up(self, batch: int) -> None:
        """Run until a step takes its usual time, and choose the steps of a round."""
        if self.settings.keep_memory:
            keep_free_memory()
        self._load(batch, self.job.shape)
        seconds = self._seconds(1)
        if seconds < ROUND_SECONDS:
            seconds = self._seconds(1)
        self._repeats = ceil(ROUND_SECONDS / seconds)
        self._release()

    def round(self) -> float:
        """Images per second over one round."""
        # What _release gave back is taken again before the clock runs.
        if self.settings.device == "cuda":
            self._load(self._batch, self.job.shape)
            self._step()
        seconds = self._seconds(self._repeats)
        self._release()
        return self._repeats * self._batch / seconds

    def largest_batch(self) -> int:
        """Largest batch with which a step fits into the memory of the GPU.

        Raises:
            MemoryError: Not even one image fits.
        """
        fits, fails = 0, MAX_BATCH + 1
        while fails - fits > 1:
            batch = min(2 * fits or 1, (fits + fails) // 2)
            if self._fits(batch):
                fits = batch
            else:
                fails = batch
        if fits == 0:
            raise MemoryError("not even one image fits")
        return fits

    def _fits(self, batch: int) -> bool:
        try:
            self._load(batch, self.job.shape)
            self._step()
        except torch.OutOfMemoryError:
            return False
        finally:
            self._release()
        return True

    def _load(self, batch: int, shape: tuple[int, int]) -> None:
        self._images, self._batch = torch.empty(0), batch
        self._images = torch.randn(batch, 3, *shape, device=self.settings.device)

    def _step(self) -> None:
        train, settings = self.job.mode == "train", self.settings
        dtype = getattr(torch, settings.amp) if settings.amp else None
        if train:
            self._model.zero_grad(set_to_none=True)
        with (
            torch.set_grad_enabled(train),
            torch.autocast(settings.device, dtype, enabled=dtype is not None),
        ):
            outputs = self._run(self._images)
        if train:
            sum(x.float().square().mean() for x in outputs).backward()

    def _seconds(self, repeats: int) -> float:
        self._synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            self._step()
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def _release(self) -> None:
        # The other workers need the memory: here only the weights may stay.
        if self.settings.device == "cuda":
            self._images = torch.empty(0)
            self._model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()


def _serve(connection: Connection, load: Callable[[Any], Any], job: object) -> None:
    """Main function of the worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what Ctrl-C means
    bench, failure = None, None
    try:
        bench = load(job)
    except Exception as error:  # whatever a model raises is reported to the caller
        failure = _one_line(error)
    with suppress(EOFError, ConnectionError):  # the caller has gone
        while True:
            method, args = connection.recv()
            if bench is None:
                connection.send((None, failure))
                return
            try:
                answer = (getattr(bench, method)(*args), None)
            except Exception as error:
                answer = (None, _one_line(error))
            connection.send(answer)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    ran_out |= "can't allocate memory" in lines[0]
    prefix = "out of memory: " if ran_out else ""
    return prefix + re.sub(r"^\[enforce fail at .*?\] (err == 0\. )?", "", lines[0])


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "killed by signal 9: out of memory, as a rule"
    if status < 0:
        return f"ended by signal {-status}"
    return f"ended with status {status}"


def peak_memory(step: Callable[[], None], device: str) -> float:
    """Peak over what is there already, during one step, in MiB.

    CUDA: what PyTorch's allocator handed out. CPU: the resident set, by the kernel's
    own high-water mark, which is reset before the step.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    return_free_memory()
    reset_high_water_mark()
    before = process_memory("VmRSS")
    step()
    return process_memory("VmHWM") - before


def limit_memory(mib: int, device: str) -> None:
    """Let this process take so many MiB more; beyond them it gets an error."""
    if device == "cuda":
        used = torch.cuda.memory_allocated() + mib * MIB
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(used / total, 1.0))
    else:
        used = int((process_memory("VmSize") + mib) * MIB)
        resource.setrlimit(resource.RLIMIT_AS, (used, used))


def process_memory(key: str) -> float:
    """A line of ``/proc/self/status`` in MiB, such as ``VmRSS``."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def reset_high_water_mark() -> bool:
    """Let ``VmHWM`` begin again from the present resident set.

    Returns:
        Whether the kernel permits it.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _cpu_name() -> str:
    names = re.findall(
        r"^model name\s*:\s*(.+)$",
        Path("/proc/cpuinfo").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return names[0] if names else platform.machine()
