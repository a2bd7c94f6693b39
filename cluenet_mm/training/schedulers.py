"""A learning rate that knows the length of its run."""

from math import cos, pi

from mmengine.optim import OptimWrapper, _ParamScheduler
from torch.optim import Optimizer

from ..registry import PARAM_SCHEDULERS

# What is left of the rate above its floor when a share p of the decay has passed.
DECAYS = {
    "cosine": lambda p: (1 + cos(pi * p)) / 2,
    "poly": lambda p: (1 - p) ** 0.9,
}


@PARAM_SCHEDULERS.register_module()
class WarmupLR(_ParamScheduler):
    """Linear warm-up from an absolute rate, then a decay over the whole run.

    With ``p = step / end``, the rate of a parameter group is
    ``start_lr + (lr - start_lr) * p / warmup`` while ``p < warmup``, and
    ``min_lr + (lr - min_lr) * decay(p / (1 - cooldown))`` afterwards; the cooldown runs
    at ``min_lr``. The decay begins at step 0, as timm's with ``warmup_prefix=False``:
    it is entered where the warm-up ends, a little below ``lr``. ``lr`` is the group's
    rate after ``lr_mult`` and ``--auto-scale-lr``; no group starts or ends above it.

    A schedule belongs to its length. MMEngine's runner passes its ``max_epochs`` (or
    ``max_iters``, with ``by_epoch=False``) as ``end``, and the rest are fractions of
    that: ``train_cfg.max_epochs=4`` alone makes a whole schedule of 4 epochs with a
    warm-up shorter in proportion. Stepped by epoch, the first epoch of a warm-up runs
    at ``start_lr`` however short the run. To step by iteration in a run of epochs, set
    ``by_epoch=False``; nothing has to be converted.

    Args:
        optimizer: Optimizer, or its wrapper, whose rate is scheduled.
        end: Length of the run, in epochs or, with ``by_epoch=False``, in iterations.
        decay: ``"cosine"``, half a wave, or ``"poly"``, ``(1 - p) ** 0.9``.
        warmup: Fraction of the run that is warm-up.
        start_lr: Rate of the first step of a warm-up.
        min_lr: Rate at the end of the decay.
        cooldown: Fraction of the run that comes after the decay.
        last_step: Index of the last step, to go on without a state.
        by_epoch: Whether to step once an epoch rather than once an iteration.
        verbose: Whether to log every rate.

    Raises:
        ValueError: If the decay is not known, or the fractions leave no time for it.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = WarmupLR(sgd, end=4, warmup=0.25, start_lr=0.1)
        >>> for _ in range(4):
        ...     print(round(sgd.param_groups[0]["lr"], 3))
        ...     sgd.step()
        ...     schedule.step()
        0.1
        0.854
        0.5
        0.146
    """

    def __init__(
        self,
        optimizer: Optimizer | OptimWrapper,
        end: int,
        decay: str = "cosine",
        warmup: float = 0.0,
        start_lr: float = 1e-6,
        min_lr: float = 0.0,
        cooldown: float = 0.0,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if decay not in DECAYS:
            raise ValueError(
                f"cannot schedule a decay of {decay!r}: it is not one of "
                f"{', '.join(DECAYS)}. Name one of these."
            )
        if warmup < 0 or cooldown < 0 or warmup + cooldown >= 1:
            raise ValueError(
                f"cannot schedule warmup={warmup} and cooldown={cooldown}: they are "
                "fractions of the run. Leave a part of it for the decay."
            )
        self.decay = decay
        self.warmup = warmup
        self.start_lr = start_lr
        self.min_lr = min_lr
        self.cooldown = cooldown
        super().__init__(
            optimizer,
            "lr",
            end=end,
            last_step=last_step,
            by_epoch=by_epoch,
            verbose=verbose,
        )

    def _get_value(self) -> list[float]:
        passed = self.last_step / self.end
        return [self._rate(lr, passed) for lr in self.base_values]

    def _rate(self, lr: float, passed: float) -> float:
        if passed < self.warmup:
            start = min(self.start_lr, lr)
            return start + (lr - start) * passed / self.warmup
        floor = min(self.min_lr, lr)
        left = DECAYS[self.decay](min(passed / (1 - self.cooldown), 1.0))
        return floor + (lr - floor) * left
