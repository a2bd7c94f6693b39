"""Weights that do not fit are an error."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from ..checkpoint import CheckpointError
from ..registry import HOOKS
from ..weights import checkpoint_faults


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse a checkpoint whose weights are not those of the model.

    MMEngine's runner only warns and goes on with random weights.

    Args:
        allow_missing: Prefixes of names that the checkpoint may lack.
        allow_unexpected: Prefixes of names that the model may lack.
        partial: Refuse only weights of which none fits, or that ask for other options;
            MMEngine warns of the rest. For weights to start from.

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
        """Compare names, shapes and the options that converted weights ask for."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        faults = checkpoint_faults(
            model,
            checkpoint,
            self.allow_missing,
            self.allow_unexpected,
            self.partial,
        )
        if faults:
            path = runner.cfg.get("load_from")
            raise CheckpointError(f"checkpoint {path}: {faults}" if path else faults)
