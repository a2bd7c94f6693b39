"""What a run shows on the terminal; everything else is in its log file.

MMEngine logs environment, config and hooks, some 270 lines, before the first step.
"""

import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .data_errors import name_files
from .guard import raise_lost

# Beginnings of records of MMEngine that tell a user nothing.
_FILE_ONLY = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "Checkpoints will be saved to",  # which the summary says
    "Distributed training is not used",
    "Exp name: ",
    "Loads checkpoint by",
    "Saving checkpoint at",
    "The previous best checkpoint",
    "paramwise_options -- ",
)
_BAR = 20
_REFRESH = 0.5  # seconds
_SLOW_STEP = 2  # seconds
_CLEAR_LINE = "\r\033[K"


class TerminalRunner(Runner):
    """MMEngine's runner with a terminal for people: warnings, progress, results.

    Where the output is a terminal, a bar takes the place of the lines of progress.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> logging.Logger:
        """Build MMEngine's logger, and choose what it shows."""
        logger = super().build_logger(*args, **kwargs)
        self._bar = _Bar() if sys.stdout.isatty() and not self.rank else None
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:  # its children write files
                handler.addFilter(_Shown(self._bar))
        return logger

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build MMEngine's data loader, which names a file that cannot be read."""
        loader = Runner.build_dataloader(*args, **kwargs)
        name_files(loader.dataset)
        return loader

    def call_hook(self, *args: Any, **kwargs: Any) -> None:
        """Call the hooks, unless the run is to end."""
        raise_lost()
        super().call_hook(*args, **kwargs)

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config, and the bar."""
        super().register_hooks(*args, **kwargs)
        if self._bar is not None:
            self.register_hook(_ProgressHook(self._bar), "VERY_LOW")
        self.register_hook(_SlowStepHook(), "VERY_LOW")


class _Bar:
    """One line at the end of the terminal, which later output replaces."""

    def __init__(self) -> None:
        self._time = 0.0

    def due(self) -> bool:
        """Whether the line is old."""
        return time.monotonic() - self._time >= _REFRESH

    def show(self, text: str) -> None:
        text = text[: shutil.get_terminal_size().columns - 1]  # a second would stay
        print(f"{_CLEAR_LINE}{text}", end="", flush=True)
        self._time = time.monotonic()

    def clear(self) -> None:
        if self._time:
            print(_CLEAR_LINE, end="", flush=True)
            self._time = 0.0


class _Shown(logging.Filter):
    """What of the log a terminal shows."""

    def __init__(self, bar: _Bar | None) -> None:
        super().__init__()
        self._bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(_FILE_ONLY):
            return False
        if record.levelno <= logging.INFO:
            if record.module == "runner" and "\n" in text:  # MMEngine's lists
                return False
            if record.module == "logger_hook" and self._replaced(record.funcName):
                return False
        if self._bar is not None:
            self._bar.clear()
        return True

    def _replaced(self, function: str) -> bool:
        """Whether a bar, or the table of results, says what a hook logs."""
        by_bar = self._bar is not None and function.endswith("_iter")
        return by_bar or function == "after_test_epoch"


class _ProgressHook(Hook):
    """Moves the bar."""

    def __init__(self, bar: _Bar) -> None:
        self._bar = bar

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Mapping | None = None,
    ) -> None:
        """Show epoch, iteration, loss, learning rate, and the time that is left."""
        if not self._bar.due():
            return
        loop = runner.train_loop
        if runner.max_epochs and hasattr(loop, "max_epochs"):
            name = f"epoch {runner.epoch + 1}/{loop.max_epochs}"
            now, end = batch_idx + 1, len(loop.dataloader)
        else:
            name, now, end = "train", runner.iter + 1, runner.max_iters
        scalars = runner.message_hub.log_scalars
        words = [
            f"{word} {scalars[key].current():.4g}"
            for word, key in (("loss", "train/loss"), ("lr", "train/lr"))
            if key in scalars
        ]
        self._show(runner, name, now, end, *words)

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Sequence | None = None,
        mode: str = "train",
    ) -> None:
        """Show the progress of an evaluation."""
        if self._bar.due():
            end = len(getattr(runner, f"{mode}_dataloader"))
            self._show(runner, mode, batch_idx + 1, end)

    def _after_epoch(self, runner: Runner, mode: str = "train") -> None:
        self._bar.clear()

    def after_run(self, runner: Runner) -> None:
        self._bar.clear()

    def _show(self, runner: Runner, name: str, now: int, end: int, *words: str) -> None:
        done = "#" * (_BAR * now // end)
        words = list(words)
        if (left := runner.message_hub.runtime_info.get("eta")) is not None:
            words.append(f"eta {timedelta(seconds=int(left))}")
        self._bar.show(f"{name} [{done:<{_BAR}}] {now}/{end}  {'  '.join(words)}")


class _SlowStepHook(Hook):
    """Says early how long a slow run takes: its first line of progress comes late."""

    def __init__(self) -> None:
        self._steps = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: Mapping | None = None,
    ) -> None:
        """Judge the second step; the first includes the start of the workers."""
        self._steps += 1
        times = runner.message_hub.log_scalars.get("train/time")
        if self._steps == 2 and times and times.current() >= _SLOW_STEP:
            step, left = times.current(), runner.max_iters - runner.iter - 1
            time_left = timedelta(seconds=int(step * left))
            runner.logger.info(f"A step takes {step:.0f} s; {time_left} are left")
