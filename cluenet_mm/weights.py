"""Do these weights belong to this model?"""

from collections.abc import Mapping

from torch import Tensor, nn

_SHOWN = 5
_BACKBONE = "backbone."
# PyTorch 0.4 did not save this counter, and nothing depends on it.
_COUNTER = "num_batches_tracked"


def checkpoint_faults(
    model: nn.Module,
    checkpoint: Mapping,
    allow_missing: tuple[str, ...] = (),
    allow_unexpected: tuple[str, ...] = (),
    partial: bool = False,
) -> str:
    """Say why a checkpoint is not one of a model.

    Beside names and shapes, the options of the backbone are compared that converted
    weights ask for and that no shape shows (``meta['options']``).

    Args:
        model: The model, or the backbone itself.
        checkpoint: The loaded file; a bare state dict will do.
        allow_missing: Prefixes of names that the checkpoint may lack.
        allow_unexpected: Prefixes of names that the model may lack.
        partial: Ask no more of the weights than that one of them fits.

    Returns:
        One sentence with the first mismatches and the cure; empty if all fit.
    """
    weights = checkpoint.get("state_dict", checkpoint)
    faults = weight_faults(model, weights, allow_missing, allow_unexpected)
    if partial and _any_fits(model, weights):
        faults = ""
    return faults or option_faults(model, checkpoint.get("meta") or {})


def option_faults(model: nn.Module, meta: Mapping) -> str:
    """Say which options of a backbone are not those its weights were trained with.

    Args:
        model: The model, or the backbone itself.
        meta: What a converted checkpoint tells of itself; ``options`` holds arguments
            of the backbone.

    Returns:
        One sentence with the cure; empty if all fit.
    """
    backbone = getattr(model, "backbone", model)
    wrong = [
        f"{name}={value!r} (the model has {getattr(backbone, name, None)!r})"
        for name, value in meta.get("options", {}).items()
        if getattr(backbone, name, None) != value
    ]
    if not wrong:
        return ""
    return f"these weights need {', '.join(wrong)}: set it in the backbone's config"


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
    wanted, found = _shapes(model.state_dict()), _shapes(weights)
    missing = [
        name
        for name in wanted
        if name not in found
        and not name.startswith(allow_missing)
        and not name.endswith(_COUNTER)
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
    cure = "give the config that the checkpoint was trained with"
    if missing and all(_BACKBONE + name in found for name in missing):
        cure = f"set prefix={_BACKBONE!r} in init_cfg: they are those of a whole model"
    return (
        f"the weights do not fit the model of this config ({'; '.join(faults)}); {cure}"
    )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix("module."): value.shape
        for name, value in weights.items()
        if hasattr(value, "shape")
    }


def _any_fits(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    both = _shapes(model.state_dict()).items() & _shapes(weights).items()
    return not all(name.endswith(_COUNTER) for name, _ in both)
