"""Optimizer wrappers that skip a step whose loss or gradients are not finite."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import Tensor, nn
from torch.optim import Optimizer

from cluenet_mm.registry import OPTIM_WRAPPERS

SKIPPED_STEPS = "train/skipped_steps"
_IN_A_ROW = "skipped_steps_in_a_row"


class NonFiniteError(FloatingPointError):
    """The loss or the gradients were not finite for too many steps in a row."""


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` that skips steps with a NaN or infinite number.

    A step is skipped if its loss or one of its gradients is not finite: a finite loss
    can have gradients that are not, such as that of a square root at 0. All ranks
    decide alike, so that their weights stay equal. The number of skipped steps so far
    is in the log as ``skipped_steps`` from the first one on, and is resumed with the
    run. The learning rate schedule continues meanwhile.

    With gradient accumulation a step is the whole window of ``accumulative_counts``
    batches: one bad batch drops the window, and counts as one skip.

    The decision costs one read of the gradients, one all-reduce of a single number
    over the ranks and one device synchronization a step. Gradients whose norm overflows
    count as not finite: clipping would make them zero.

    Args:
        optimizer: The optimizer to step; MMEngine's builder passes it.
        accumulative_counts: Batches to accumulate gradients over.
        clip_grad: Options of gradient clipping, as for MMEngine's ``OptimWrapper``.
        max_consecutive_skips: Skips in a row after which training stops.

    Raises:
        NonFiniteError: After ``max_consecutive_skips`` skips in a row.
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
        # Mean over the batches of the window so far. It begins as a number, since a new
        # tensor would wait for the device.
        self._loss: Tensor | float = 0.0

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """Run the backward pass and, at the end of a window, the step.

        Args:
            loss: Scalar, of any floating type.
            step_kwargs: Arguments of the optimizer's ``step``.
            zero_kwargs: Arguments of its ``zero_grad``.

        Raises:
            NonFiniteError: See the class.
        """
        self._loss = self.scale_loss(loss.detach().float().sum()) + self._loss
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: object) -> None:
        """Clip the gradients and step, unless something is not finite on a rank."""
        loss, self._loss = torch.as_tensor(self._loss), 0.0
        watched = {"loss": loss, **self._watched_gradients()}
        values = torch.stack([value.to(loss) for value in watched.values()])
        finite = values.isfinite().all().float()
        all_reduce(finite, "min")
        if not finite:
            self._count_skip(dict(zip(watched, values.tolist(), strict=True)))
            return
        self._finite_step(**kwargs)
        if self._in_a_row:
            self.message_hub.update_info(_IN_A_ROW, 0)

    def _finite_step(self, **kwargs: object) -> None:
        super().step(**kwargs)

    def _watched_gradients(self) -> dict[str, Tensor]:
        """Euclidean norm over all gradients, not finite if one of them is not."""
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return {}
        # A few kernels for all of them. (torch.nn.utils.get_total_norm is PyTorch 2.6.)
        norms = torch._foreach_norm(gradients)
        norms = torch.stack([norm.to(norms[0]) for norm in norms])
        return {"gradient norm": norms.norm()}

    @property
    def _in_a_row(self) -> int:
        return self.message_hub.runtime_info.get(_IN_A_ROW, 0)

    def _count_skip(self, values: dict[str, float]) -> None:
        history = self.message_hub.log_scalars.get(SKIPPED_STEPS)
        total, row = 1 + int(history.current() if history else 0), 1 + self._in_a_row
        self.message_hub.update_scalar(SKIPPED_STEPS, total)
        self.message_hub.update_info(_IN_A_ROW, row)
        seen = " and ".join(f"{name} {value:.4g}" for name, value in values.items())
        seen += f" at iteration {self.inner_count}"
        print_log(
            f"Skipped a step: {seen} must be finite on every rank "
            f"({row} in a row, {total} in all)",
            logger="current",
            level=logging.WARNING,
        )
        if row >= self.max_consecutive_skips:
            rates = sorted({group["lr"] for group in self.optimizer.param_groups})
            raise NonFiniteError(
                f"stopped after {row} steps in a row whose loss or gradients were not "
                f"finite: {seen}, "
                f"learning rate {', '.join(f'{rate:.3g}' for rate in rates)}. "
                "Resume from a checkpoint before it with a lower learning rate, a "
                "longer warm-up, clip_grad=dict(max_norm=1.0), or bfloat16 or no AMP; "
                "if it starts at once, look for broken images or labels"
            )


@OPTIM_WRAPPERS.register_module()
class GuardedAmpOptimWrapper(GuardedOptimWrapper):
    """:class:`GuardedOptimWrapper` with automatic mixed precision.

    Takes the place of MMEngine's ``AmpOptimWrapper``, which refuses to run on a CPU.
    With float16, gradients that overflow under a finite loss are the gradient
    scaler's business: it skips that step and lowers its scale, and they are not
    counted here.

    Args:
        optimizer: The optimizer to step; MMEngine's builder passes it.
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

    def backward(self, loss: Tensor, **kwargs: object) -> None:
        """Run the backward pass of the scaled loss."""
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def _watched_gradients(self) -> dict[str, Tensor]:
        # The scaler looks at them itself.
        return {} if self.loss_scaler.is_enabled() else super()._watched_gradients()

    def _finite_step(self, **kwargs: object) -> None:
        """Clip the unscaled gradients, step unless they overflowed, set the scale."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self.constant_scale)

    def state_dict(self) -> dict:
        """State of the optimizer, and of the scaler under ``loss_scaler``."""
        return {**super().state_dict(), "loss_scaler": self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load :meth:`state_dict`; the scaler's part may be missing or empty."""
        rest = dict(state_dict)  # MMEngine takes its own keys out, too
        if scaler := rest.pop("loss_scaler", None):
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(rest)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast the forward pass; see MMEngine's ``OptimWrapper``."""
        with super().optim_context(model), autocast(dtype=self.dtype):
            yield
