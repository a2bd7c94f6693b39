"""Random numbers that depend on where a run stands, not on how it got there."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from cluenet_mm.registry import HOOKS

_EPOCH, _ITERATION, _VALIDATION = range(3)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make a resumed run draw the random numbers of the uninterrupted one.

    Seeds Python's, NumPy's and PyTorch's generators of this process at the start of
    every epoch, iteration and validation from (the run's seed, rank, where it stands):
    dropout, drop path and mixup no longer depend on what was drawn before. This
    takes a fraction of a millisecond an iteration. Ranks draw different numbers; what
    they must agree on (the order of samples) MMEngine's samplers seed on their own.

    Data loader workers follow in epoch-based runs. MMEngine gives worker ``i`` the
    same seed in every epoch; here it keeps PyTorch's seed, which comes from the
    generator of this process and so from the epoch. A ``worker_init_fn`` in the
    config is respected.

    The same losses after resuming are thus exact at epoch boundaries with
    ``persistent_workers=False``, and in iteration-based runs, where MMEngine replays
    the data of the past iterations, with ``num_workers >= 1``. Not exact: persistent
    workers (their streams run through all epochs), random transforms in an
    iteration-based run with ``num_workers=0``, a checkpoint in the middle of an
    epoch, or of a window of ``accumulative_counts`` batches (where these do not divide
    an epoch: gradients are not in the checkpoint, and MMEngine's log warns), and CUDA
    operators that are not deterministic (see MMEngine's
    ``randomness=dict(deterministic=True)``).
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Hand the seeding of workers back to PyTorch."""
        loader = runner.train_dataloader
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        if "worker_init_fn" not in runner.cfg.get("train_dataloader", {}):
            loader.worker_init_fn = None
        if loader.persistent_workers:
            runner.logger.warning(
                "persistent_workers=True: the random transforms of a resumed run "
                "will differ from those of an uninterrupted one"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed for what is drawn between epochs, the workers' seeds above all."""
        _seed(runner.seed, get_rank(), _EPOCH, runner.epoch)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Seed for what this iteration draws."""
        _seed(runner.seed, get_rank(), _ITERATION, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Seed for a validation, which a resume may make up for."""
        _seed(runner.seed, get_rank(), _VALIDATION, runner.iter)


def _seed(*key: int) -> None:
    for_python, for_numpy, for_torch = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(for_python))
    np.random.seed(for_numpy)
    torch.manual_seed(int(for_torch))
