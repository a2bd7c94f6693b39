"""Names that a config gives to values which several of its settings share.

MMEngine computes what a base derives from a name before a child or ``--cfg-options``
changes the name. In configs that :func:`~cluenet_mm.config.read_config` opens, the
setting ``"$image_size"`` therefore means the value that ``image_size`` has at the top
of the config in the end. A setting that is overridden itself needs no name any more.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.config import Config

from .check import TOP_LEVEL

__all__ = ["fill_names"]

_USE = re.compile(r"\$([A-Za-z]\w*)")


def fill_names(
    cfg: Config, automatic: Mapping[str, Callable[[Config], Any]] | None = None
) -> None:
    """Write the values of names where they are used, and remove the names.

    Names that MMEngine reads itself, such as ``work_dir``, stay.

    Args:
        cfg: Changed in place. It is a config without names afterwards, so that its copy
            in a work dir has one place for every setting.
        automatic: What computes the value of a name that is ``"auto"``, from the config
            whose other names are filled.

    Raises:
        ValueError: A name has no value, or none can be computed.

    Examples:
        >>> cfg = Config({"side": 64, "crop": {"type": "CenterCrop", "size": "$side"}})
        >>> fill_names(cfg)
        >>> cfg.to_dict()
        {'crop': {'type': 'CenterCrop', 'size': 64}}
    """
    values = {}
    for name in sorted(set(_names(cfg))):
        if name not in cfg:
            raise ValueError(
                f"cannot use ${name}: the config has no {name} at its top. Set it there"
            )
        values[name] = cfg[name] if name in TOP_LEVEL else cfg.pop(name)
    computed = {
        name: values.pop(name) and compute
        for name, compute in (automatic or {}).items()
        if values.get(name) == "auto"
    }
    for _ in values:  # whose values may use names, too
        _fill(values, values)
    _fill(cfg, values)
    for name, compute in computed.items():
        _fill(cfg, {name: compute(cfg)})


def _names(node: Any) -> Iterator[str]:
    """The names that are used in a part of a config."""
    if isinstance(node, str):
        if use := _USE.fullmatch(node):
            yield use[1]
    elif isinstance(node, Mapping | Config):
        for _, value in node.items():
            yield from _names(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _names(value)


def _fill(node: Any, values: Mapping[str, Any]) -> Any:
    """The node with values in place of names; dictionaries and lists are changed."""
    if isinstance(node, str):
        use = _USE.fullmatch(node)
        return values.get(use[1], node) if use else node
    if isinstance(node, Mapping | Config):
        for key, value in list(node.items()):
            node[key] = _fill(value, values)
    elif isinstance(node, list):
        node[:] = [_fill(value, values) for value in node]
    elif isinstance(node, tuple):
        return tuple(_fill(value, values) for value in node)
    return node
