"""The ``type`` of a part of a config: a name, or in pure Python configs the class."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import Registry

__all__ = ["named", "registered_type", "type_name"]


def type_name(part: Mapping | str | type) -> str:
    """Name of a class without packages and scopes.

    Args:
        part: What a config builds, with its ``type``; or that ``type`` itself.

    Examples:
        >>> type_name({"type": "cluenet_mm.CLUENet"}), type_name("CLUENet")
        ('CLUENet', 'CLUENet')
    """
    kind = part["type"] if isinstance(part, Mapping) else part
    return kind.rsplit(".", 1)[-1] if isinstance(kind, str) else kind.__name__


def registered_type(part: Mapping, registry: Registry) -> Any:
    """What builds a part of a config: a class, as a rule.

    Returns:
        The ``type`` itself, or what the registry has by its name, None if nothing.
    """
    kind = part["type"]
    return registry.get(kind) if isinstance(kind, str) else kind


def named(part: Mapping, registry: Registry) -> dict:
    """A part of a config with a name as its ``type``, for what compares names.

    Returns:
        A copy. A class becomes its name, if that means this class in the default scope,
        else the path of its import, which registries understand too.
    """
    kind = part["type"]
    if not isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as here:
            known = here.get(kind.__name__) is kind
        kind = kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"
    return {**part, "type": kind}
