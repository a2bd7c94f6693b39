"""Weights that do not fit are an error."""

from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.registry import HOOKS

_SHOWN = 5


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse a checkpoint whose weights are not those of the model.

    MMEngine's runner only warns and goes on with random weights.

    Args:
        allow_missing: Prefixes of names that the checkpoint may lack.
        allow_unexpected: Prefixes of names that the model may lack.

    Raises:
        CheckpointError: While loading; names the first weights that do not match.
    """

    # After EMAHook, which exchanges the weights of the checkpoint.
    priority = "LOWEST"

    def __init__(
        self,
        allow_missing: tuple[str, ...] = (),
        allow_unexpected: tuple[str, ...] = (),
    ) -> None:
        self.allow_missing = tuple(allow_missing)
        self.allow_unexpected = tuple(allow_unexpected)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        faults = weight_faults(
            model,
            checkpoint.get("state_dict", checkpoint),
            self.allow_missing,
            self.allow_unexpected,
        )
        if faults:
            raise CheckpointError(faults)


def weight_faults(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    allow_missing: tuple[str, ...] = (),
    allow_unexpected: tuple[str, ...] = (),
) -> str:
    """Say which weights are not those of a model.

    Args:
        model: The model.
        weights: Names and tensors; ``module.`` of data-parallel training is ignored.
        allow_missing: Prefixes of names that ``weights`` may lack.
        allow_unexpected: Prefixes of names that the model may lack.

    Returns:
        One sentence with the first mismatches and the cure; empty if all fit.
    """
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    found = {
        name.removeprefix("module."): value.shape
        for name, value in weights.items()
        if hasattr(value, "shape")
    }
    missing = [
        name
        for name in wanted
        if name not in found
        and not name.startswith(allow_missing)
        # PyTorch 0.4 did not save this counter, and nothing depends on it.
        and not name.endswith("num_batches_tracked")
    ]
    unexpected = [
        name
        for name in found
        if name not in wanted and not name.startswith(allow_unexpected)
    ]
    differing = [
        f"{name} {tuple(found[name])}, not {tuple(wanted[name])}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    faults = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}"
        + (", ..." if len(names) > _SHOWN else "")
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", differing),
        )
        if names
    ]
    if not faults:
        return ""
    return (
        f"the weights do not fit the model of this config ({'; '.join(faults)}); give "
        "the config that the checkpoint was trained with"
    )
