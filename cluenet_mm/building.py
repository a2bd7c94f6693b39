"""Parts that a config asks for and that cannot be built, told in one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.runner import BaseLoop

from .checkpoint import CheckpointError
from .config import PLACES, inner_datasets
from .data_errors import DataError
from .errors import one_line_with_place
from .files import NO_ROOM, WriteError
from .package_data import config_name

__all__ = ["BuildError", "building"]

# Functions of MMEngine by the part of a config that they build.
_BUILDERS = {
    "model": ("_init_model", "build_model", "wrap_model", "_init_model_weights"),
    "optim_wrapper": ("build_optim_wrapper",),
    "param_scheduler": ("build_param_scheduler",),
    "evaluator": ("build_evaluator",),
    "dataloader": ("build_dataloader", "build_dataset"),
    "cfg": ("build_train_loop", "build_val_loop", "build_test_loop"),
    "default_hooks": ("register_default_hooks",),
    "custom_hooks": ("register_custom_hooks",),
    "compile": ("_maybe_compile",),
    "visualizer": ("build_visualizer", "_init_visualizer"),
    "log_level": ("build_logger",),
    "randomness": ("set_randomness",),
    "load_from": ("load_or_resume",),
}
_PARTS = {function: part for part, names in _BUILDERS.items() for function in names}
_OF_A_PHASE = ("evaluator", "dataloader", "cfg")


class BuildError(ValueError):
    """A part of a run that settings or data let not be built; one line."""


@contextmanager
def building(cfg: Config) -> Iterator[None]:
    """Raise a :class:`BuildError` for whatever is raised until a loop begins to run.

    Parts are built by code of many libraries, which fails in every way; most of it is
    called late, by ``Runner.train``. What a loop raises is left as it is, but for a
    disk that is full.

    Args:
        cfg: What is built.
    """
    try:
        yield
    except (BuildError, CheckpointError, DataError, WriteError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            place = error.filename or cfg.get("work_dir")
            raise WriteError(place, error) from error
        if any(_is_loop(f) for f, _ in traceback.walk_tb(error.__traceback__)):
            raise
        raise BuildError(_fault(cfg, error)) from error


def _is_loop(frame: object) -> bool:
    runs = isinstance(frame.f_locals.get("self"), BaseLoop)
    return runs and frame.f_code.co_name == "run"


def _fault(cfg: Config, error: Exception) -> str:
    """Which part cannot be built, why, and where to look."""
    called = [f.name for f in traceback.extract_tb(error.__traceback__)]
    part = next((_PARTS[name] for name in reversed(called) if name in _PARTS), "")
    if part in _OF_A_PHASE:
        loops = [n.split("_")[1] for n in called if n in _BUILDERS["cfg"]]
        part = f"{loops[-1]}_{part}" if loops else f"the {part}"
    named, cure = "", f"Check {part or 'what the line names'} in the config"
    if part == "model" and "unexpected keyword argument" in str(error):
        cure = (
            "Where a config inherits a part and changes its type, write _delete_=True "
            "beside the type: the options of the old one stay otherwise"
        )
    elif part == "optim_wrapper":
        # MMEngine does not say which type it does not know.
        named = f" {cfg.optim_wrapper.get('optimizer')}"
    elif part.endswith("_dataloader"):
        dataset = inner_datasets(cfg[part].get("dataset") or {})[0]
        named = "".join(f", {k}={dataset[k]!r}" for k in PLACES if dataset.get(k))
        if not isinstance(error, TypeError):  # which is about settings, not data
            name = cfg.filename and (config_name(cfg.filename) or cfg.filename)
            cure = f"tools/check_dataset.py {name or 'CONFIG'} says more"
    elif part == "load_from":
        cure = "Give the config that it was trained with"
    if isinstance(error, KeyError) and "registry" in str(error):
        cure += ", and default_scope"
    reason = one_line_with_place(error)
    if part == "load_from":
        return f"cannot resume from {cfg.load_from}: {reason}. {cure}"
    return f"cannot build {part or 'a part of the config'}{named}: {reason}. {cure}"
