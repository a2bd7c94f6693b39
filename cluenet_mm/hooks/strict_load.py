"""Weights that do not fit are an error."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ..checkpoint import check_resume, check_weights
from ..checkpoint.resume import check_optimizer, kept_rates
from ..registry import HOOKS


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse a checkpoint whose weights are not those of the model.

    MMEngine's runner only warns and goes on with random weights.

    Args:
        allow_missing: Beginnings of names that the checkpoint may lack.
        allow_unexpected: Beginnings of names that the model may lack.
        partial: The weights are to start from; see
            :func:`~cluenet_mm.checkpoint.check_weights`. What a run is resumed from
            must fit wholly all the same.

    Raises:
        CheckpointError: While loading; names the first weights that do not match.
    """

    # After EMAHook, which exchanges the weights of the checkpoint.
    priority = "LOWEST"

    def __init__(
        self,
        allow_missing: tuple[str, ...] = (),
        allow_unexpected: tuple[str, ...] = (),
        partial: bool = False,
    ) -> None:
        self.allow_missing = tuple(allow_missing)
        self.allow_unexpected = tuple(allow_unexpected)
        self.partial = partial

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the weights, and the optimizer of a run that is resumed."""
        source = runner.cfg.get("load_from") or ""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        resuming = bool(runner.cfg.get("resume"))
        strict = resuming and self.partial
        check_weights(
            model,
            checkpoint,
            source,
            allow_missing=() if strict else self.allow_missing,
            allow_unexpected=() if strict else self.allow_unexpected,
            partial=self.partial and not resuming,
        )
        if resuming:
            check_resume(checkpoint, source)
            if isinstance(runner.optim_wrapper, OptimWrapper):
                optimizer = runner.optim_wrapper.optimizer
                check_optimizer(optimizer, checkpoint, source)
                if rates := kept_rates(optimizer, checkpoint):
                    runner.logger.warning(
                        "A resumed run keeps the learning rate of its checkpoint, "
                        f"{rates[0]:g}: the {rates[1]:g} that config and options ask "
                        "for has no effect. For another rate, start a new run with "
                        f"--cfg-options load_from={source}"
                    )
