"""A validation that an interruption cut off is made up for."""

import itertools
from bisect import bisect
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..checkpoint.resume import VALIDATION_RECORD, is_validated
from ..files import write_text
from ..registry import HOOKS


@HOOKS.register_module()
class PendingValidationHook(Hook):
    """Validate first when a run is resumed that was cut off before it had done so.

    MMEngine saves the checkpoint of an epoch, then validates. A run that ends between
    the two would go on with the next epoch: that validation would never be made, and
    neither would the best checkpoint that it may have given.

    What was validated is written to ``last_validation`` in the work dir, once the best
    checkpoint is saved. Without that file, as of a run that had not this hook, the
    epoch is validated once more, which changes nothing.
    """

    priority = "LOWEST"  # after CheckpointHook, which saves the best

    def before_train(self, runner: Runner) -> None:
        """Validate where that is due; a new run has no validation yet."""
        record = Path(runner.work_dir, VALIDATION_RECORD)
        loop = runner.train_loop
        step = _step(runner)
        if not runner.cfg.get("resume"):
            if is_main_process():
                record.unlink(missing_ok=True)
            return
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        end = loop.max_epochs if by_epoch else loop.max_iters
        if step == end and not by_epoch:
            loop.dataloader_iterator = itertools.repeat(None)  # no data to skip
        if runner.val_loop is None or step < max(loop.val_begin, 1):
            return
        stage = bisect(loop.dynamic_milestones, step + 1) - 1
        due = step % loop.dynamic_intervals[stage] == 0 or step == end
        resumed = runner.cfg.get("load_from") or record
        if not due or is_validated(resumed, runner.work_dir, step):
            return
        barrier()  # all have read the record before the first writes it
        runner.logger.info(
            f"The validation after {_unit(runner)} {step} was cut off: it comes first"
        )
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                # It saves this one anew, where its score is the best so far.
                hook.last_ckpt = runner.message_hub.get_info("last_ckpt")
        runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Write down what has been validated."""
        if is_main_process():
            write_text(Path(runner.work_dir, VALIDATION_RECORD), f"{_step(runner)}\n")


def _unit(runner: Runner) -> str:
    return "epoch" if isinstance(runner.train_loop, EpochBasedTrainLoop) else "iter"


def _step(runner: Runner) -> int:
    return getattr(runner, _unit(runner))
