"""Published weights: their table, and the files that ship with the package.

``table.json`` holds an entry a name; tools/dev/publish_weights.py writes it. Everything
that takes a checkpoint takes ``cluenet_mm://NAME``.
"""

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "PublishedWeights", "published"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PublishedWeights:
    """An entry of the table.

    Attributes:
        config: Name of the config of the network, such as ``cluenet/cls_cifar100.py``.
        file: Name of a file in ``FOLDER``, or an https link.
        sha256: Its SHA-256, 64 hexadecimal digits.
        size: Its length in bytes.
    """

    config: str
    file: str
    sha256: str
    size: int


def published() -> dict[str, PublishedWeights]:
    """Read the table.

    Returns:
        Names and entries. Where the weights come from is in the file itself:
        ``load_checkpoint("cluenet_mm://NAME")["meta"]["published"]``.
    """
    table = json.loads((FOLDER / "table.json").read_text(encoding="utf-8"))
    return {name: PublishedWeights(**entry) for name, entry in table.items()}
