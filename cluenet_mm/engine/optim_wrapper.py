"""Optimiser wrappers that leave out a step whose loss is not finite."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn
from torch.optim import Optimizer

from cluenet_mm.registry import OPTIM_WRAPPERS

SKIPPED_STEPS = "train/skipped_steps"


class NonFiniteLossError(FloatingPointError):
    """The loss was not finite for too many steps in a row."""


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` that skips steps whose loss is NaN or infinite.

    All ranks decide alike: if the loss of one of them is not finite, none runs the
    backward pass and none steps, so that their weights stay equal. The number of
    skipped steps so far stands in the log as ``skipped_steps`` from the first one
    on, and is resumed with the run. The learning rate schedule goes on meanwhile.

    With gradient accumulation a step is the whole window of ``accumulative_counts``
    batches: one bad batch drops the window, with what was accumulated before it and
    without a backward pass for what follows. (A step with the rest would mix ranks
    that have not exchanged their gradients yet.) It counts as one skip.

    Deciding needs the loss on the host before the backward pass: one device
    synchronisation a batch, and one all-reduce of a single number over the ranks.
    MMEngine reads the loss for its log in every iteration as well, so this moves a
    wait forward rather than adding one.

    Args:
        optimizer: The optimiser to step; MMEngine's builder passes it.
        accumulative_counts: Batches to accumulate gradients over.
        clip_grad: Options of gradient clipping, as for MMEngine's ``OptimWrapper``.
        max_consecutive_skips: Skips in a row after which training stops.

    Raises:
        NonFiniteLossError: After ``max_consecutive_skips`` skips in a row.
        ValueError: ``max_consecutive_skips`` is below 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        max_consecutive_skips: int = 10,
    ) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad)
        if max_consecutive_skips < 1:
            raise ValueError(
                f"max_consecutive_skips must be at least 1, got {max_consecutive_skips}"
            )
        self.max_consecutive_skips = max_consecutive_skips
        self._consecutive_skips = 0
        self._window_dropped = False

    def update_params(
        self,
        loss: torch.Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """Run the backward pass and, at the end of a window, the step.

        Args:
            loss: Scalar, of any floating type.
            step_kwargs: Arguments of the optimiser's ``step``.
            zero_kwargs: Arguments of its ``zero_grad``.

        Raises:
            NonFiniteLossError: See the class.
        """
        if not self._window_dropped and _finite_on_all_ranks(loss):
            super().update_params(loss, step_kwargs, zero_kwargs)
            if self.should_update():
                self._consecutive_skips = 0
            return
        if not self._window_dropped:
            self._window_dropped = True
            self.zero_grad(**(zero_kwargs or {}))
            self._count_skip(loss)
        self._inner_count += 1  # MMEngine's protocol: once for each update_params
        if self.should_update():
            self._window_dropped = False

    def _count_skip(self, loss: torch.Tensor) -> None:
        history = self.message_hub.log_scalars.get(SKIPPED_STEPS)
        total = 1 + (0 if history is None else int(history.current()))
        self.message_hub.update_scalar(SKIPPED_STEPS, total)
        self._consecutive_skips += 1
        value, row = loss.item(), self._consecutive_skips
        seen = f"loss {value} at iteration {self.inner_count + 1}"
        print_log(
            f"Skipped a step: {seen} is not finite on every rank "
            f"({row} in a row, {total} in all)",
            logger="current",
            level=logging.WARNING,
        )
        if row >= self.max_consecutive_skips:
            rates = sorted({group["lr"] for group in self.optimizer.param_groups})
            raise NonFiniteLossError(
                f"stopped after {row} steps in a row without a finite loss: {seen}, "
                f"learning rate {', '.join(f'{rate:.3g}' for rate in rates)}. "
                "Resume from a checkpoint before it with a lower learning rate, a "
                "longer warm-up, clip_grad=dict(max_norm=1.0), or bfloat16 or no AMP; "
                "if it starts at once, look for broken images or labels"
            )


def _finite_on_all_ranks(loss: torch.Tensor) -> bool:
    finite = torch.isfinite(loss.detach()).all().float()
    all_reduce(finite, "min")
    return bool(finite)


@OPTIM_WRAPPERS.register_module()
class GuardedAmpOptimWrapper(GuardedOptimWrapper):
    """:class:`GuardedOptimWrapper` with automatic mixed precision.

    Takes the place of MMEngine's ``AmpOptimWrapper``, which refuses to run on a CPU.
    Gradients that overflow under a finite loss are the gradient scaler's business:
    it leaves out that step and lowers its scale, and they are not counted here.

    Args:
        optimizer: The optimiser to step; MMEngine's builder passes it.
        loss_scale: ``"dynamic"``, a constant scale, or the options of
            :class:`torch.amp.GradScaler`. Used with float16 alone: bfloat16 has the
            range of float32 and needs no scale.
        dtype: ``"float16"`` or ``"bfloat16"``; None is float16 on a GPU and bfloat16
            on a CPU.
        accumulative_counts: Batches to accumulate gradients over.
        clip_grad: Options of gradient clipping, as for MMEngine's ``OptimWrapper``.
        max_consecutive_skips: Skips in a row after which training stops.

    Raises:
        ValueError: An unknown ``dtype`` or ``loss_scale``, or float16 on a CPU.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        loss_scale: str | float | dict = "dynamic",
        dtype: str | None = None,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        max_consecutive_skips: int = 10,
    ) -> None:
        super().__init__(
            optimizer, accumulative_counts, clip_grad, max_consecutive_skips
        )
        device = get_device()
        dtype = dtype or ("bfloat16" if device == "cpu" else "float16")
        if dtype not in ("float16", "bfloat16"):
            raise ValueError(f"dtype must be 'float16' or 'bfloat16', got {dtype!r}")
        if device == "cpu" and dtype == "float16":
            raise ValueError(
                "float16 needs a GPU; on a CPU leave dtype out or set it to 'bfloat16'"
            )
        self.dtype = getattr(torch, dtype)
        self.constant_scale = None
        if loss_scale == "dynamic":
            options = {}
        elif isinstance(loss_scale, int | float):
            self.constant_scale = float(loss_scale)
            options = {"init_scale": self.constant_scale}
        elif isinstance(loss_scale, dict):
            options = loss_scale
        else:
            raise ValueError(
                "loss_scale must be 'dynamic', a number or a dict of GradScaler's "
                f"options, got {loss_scale!r}"
            )
        self.loss_scaler = torch.amp.GradScaler(
            device, enabled=dtype == "float16", **options
        )

    def backward(self, loss: torch.Tensor, **kwargs: object) -> None:
        """Run the backward pass of the scaled loss."""
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: object) -> None:
        """Clip the unscaled gradients, step unless they overflowed, set the scale."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self.constant_scale)

    def state_dict(self) -> dict:
        """State of the optimiser, and of the scaler under ``loss_scaler``."""
        return {**super().state_dict(), "loss_scaler": self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load :meth:`state_dict`; the scaler's part may be missing or empty."""
        scaler = state_dict.pop("loss_scaler", None)
        if scaler:
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast the forward pass; see MMEngine's ``OptimWrapper``."""
        with super().optim_context(model), autocast(dtype=self.dtype):
            yield
