"""Settings that nobody means: keys that nothing reads, values that train nothing."""

import inspect
import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

__all__ = ["all_keys", "refuse_impossible", "refuse_other_kinds", "unknown_keys"]

# What MMEngine and the tools read at the top of a config.
TOP_LEVEL = {
    "auto_scale_lr",
    "compile",
    "custom_imports",
    "dist_params",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "param_scheduler",
    "resume",
    "runner_type",
    "strategy",
    "sync_bn",
    "tta_model",
    "tta_pipeline",
    "vis_backends",
    *inspect.signature(Runner).parameters,
}
# What may take the place of a number.
_WORDS = ("auto", "dynamic", "torch", "mmcv")
# How alike two keys must be, from 0 to 1, for one to be a slip of the other.
_ALIKE = 0.8


def unknown_keys(cfg: Mapping, options: Mapping[str, Any]) -> list[str]:
    """Tell which keys of ``--cfg-options`` are likely misspelled.

    At the top of a config a key that nothing reads is told; further down, where
    classes have options that a config need not name, one that resembles its neighbor.

    Args:
        cfg: Before the options are merged.
        options: Values by keys with dots.

    Returns:
        A line for each.

    Examples:
        >>> unknown_keys({"train_cfg": {"max_epochs": 4}}, {"train_cfg.max_epoch": 2})
        ['the config has no train_cfg.max_epoch; is train_cfg.max_epochs meant?']
    """
    lines = []
    for key in options:
        near = _nearest(dict(cfg.items()), key)  # a Config is not a mapping
        if near is not None:
            hint = f"; is {near} meant?" if near else ", and nothing reads it"
            lines.append(f"the config has no {key}{hint}")
    return lines


def _nearest(cfg: Mapping, key: str) -> str | None:
    """The key that was likely meant, "" for an unknown one, None for a good one."""
    node, passed = cfg, []
    for part in key.split("."):
        if isinstance(node, list | tuple):
            node = dict(enumerate(node))
            part = int(part) if part.isdecimal() else part
        if not isinstance(node, Mapping):
            return None  # what replaces a value as a whole is meant to
        if part in node:
            node = node[part]
            passed.append(str(part))
            continue
        known = set(map(str, node))
        if not passed:
            known |= TOP_LEVEL
            if part in known:
                return None
        rest = key.split(".")[len(passed) + 1 :]
        if near := get_close_matches(str(part), known, 1, _ALIKE):
            return ".".join([*passed, near[0], *rest])
        if passed:
            return None
        # A key without the place where it belongs: batch_size, data_root.
        return next((k for k in all_keys(cfg) if k.endswith(f".{key}")), "")
    return None


def all_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """All keys of a config with dots."""
    if isinstance(node, Config | Mapping):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from all_keys(value, f"{prefix}{name}.")


def refuse_other_kinds(cfg: Mapping, options: Mapping[str, Any]) -> None:
    """Refuse ``--cfg-options`` that put a number or a word where other things belong.

    Args:
        cfg: Before the options are merged.
        options: Values by keys with dots.

    Raises:
        ValueError: Names the key, its value, and what the config has there.
    """
    for key, value in options.items():
        place = f"--cfg-options {key}={value}"
        if not all(key.split(".")):
            raise ValueError(f"cannot use {place}: write KEY=VALUE, a word each")
        old = dict(cfg.items())  # a Config is not a mapping
        for part in key.split("."):
            if isinstance(old, list | tuple):
                old = dict(enumerate(old))
                part = int(part) if part.isdecimal() else part
            old = old.get(part) if isinstance(old, Mapping) else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and isinstance(old, Mapping):
            raise ValueError(
                f"cannot use {place}: the config has a dictionary there. Name one of "
                f"its keys: {', '.join(map(str, old))}"
            )
        if (
            number
            and isinstance(old, list)
            and any(isinstance(item, Mapping) for item in old)
        ):
            raise ValueError(
                f"cannot use {place}: the config has a list of dictionaries there. "
                f"Write {key}.0.KEY=VALUE"
            )
        word = isinstance(value, str) and value not in _WORDS and value[:1] != "$"
        if word and _is_number(old):
            raise ValueError(f"cannot use {place}: write a number, such as {old}")


def refuse_impossible(cfg: Mapping) -> None:
    """Refuse values that make a run of nothing, or one without numbers.

    Raises:
        ValueError: Names the key, its value, and what to write.
    """
    loop, model = _part(cfg, "train_cfg"), _part(cfg, "model")
    for name in ("max_epochs", "max_iters", "val_interval"):
        length = loop.get(name)
        if length is not None and not (_is_number(length) and length >= 1):
            raise ValueError(
                f"cannot train with train_cfg.{name}={length!r}: write at least 1"
            )
    for place, part in (("", cfg), ("model.", model)):
        lengths = set()
        for name, low in (("std", 0), ("mean", -math.inf)):
            value = _part(part, "data_preprocessor").get(name)
            values = [] if value is None else value
            values = values if isinstance(values, list | tuple) else [values]
            lengths.add(len(values))
            if not all(_is_number(v) and v > low for v in values) or len(lengths) > 1:
                raise ValueError(
                    f"cannot normalize images with {place}data_preprocessor.{name}="
                    f"{value!r}: write a finite number for each channel, as many for "
                    "mean and std, above 0 for std, which they are divided by"
                )
    if cfg.get("sync_bn") not in (None, "torch", "mmcv"):
        raise ValueError(
            f"cannot use sync_bn={cfg.get('sync_bn')!r}: write 'torch' or 'mmcv'"
        )
    for place, value in _values(model, "with_cp", "model"):
        if not isinstance(value, bool):
            raise ValueError(f"cannot use {place}={value!r}: write True or False")


def _part(node: Mapping, name: str) -> Mapping:
    part = node.get(name)
    return part if isinstance(part, Mapping) else {}


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _values(node: Any, name: str, place: str) -> Iterator[tuple[str, Any]]:
    """Where a key stands below a part of a config, and its values."""
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == name:
                yield f"{place}.{key}", value
            yield from _values(value, name, f"{place}.{key}")
