"""The ``type`` of a part of a config: a name, or in pure Python configs the class."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import Registry

__all__ = ["registered_type", "type_name"]


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
