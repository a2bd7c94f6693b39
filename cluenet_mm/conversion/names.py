"""What the releases call our parameters."""

import re
from typing import NamedTuple

from torch import Tensor, nn

from ..backbones import FEC, CLUENet, ContextCluster


class Family(NamedTuple):
    """How the release of a family names its weights.

    Attributes:
        backbone: Our backbone class.
        blocks: Beginning of the names in a stage, to be filled with its number in the
            release's list.
        parts: Beginnings of our names inside a block, a reducer or the embedding, and
            what the release calls them; the first that fits is taken.
        ignored: Official names that hold no weights.
    """

    backbone: type[nn.Module]
    blocks: str
    parts: dict[str, str]
    ignored: frozenset[str] = frozenset()

    def official_name(self, name: str) -> str:
        """Translate one of our names, ``backbone.*`` or ``head.fc.*``."""
        if name.startswith("head.fc."):
            return name.replace("head.fc.", "head.")
        name = name.removeprefix("backbone.")
        if match := re.match(r"norm\d+\.(.*)", name):
            return f"norm.{match[1]}"
        prefix = ""
        if match := re.match(r"stages\.(\d+)\.(\d+)\.(.*)", name):
            stage = self.blocks.format(2 * int(match[1]))
            prefix, name = f"{stage}.{match[2]}.", match[3]
        elif match := re.match(r"reducers\.(\d+)\.(.*)", name):
            prefix, name = f"network.{2 * int(match[1]) + 1}.", match[2]
        for ours, theirs in self.parts.items():
            if name.startswith(ours):
                return prefix + theirs + name[len(ours) :]
        return prefix + name

    def options(self, official: dict[str, Tensor]) -> dict[str, str]:
        """Arguments of the backbone that the weights need beside ``arch``."""
        if self.backbone is not ContextCluster:
            return {}
        # The first generation of weights has 1x1 convolutions in its MLPs.
        old = official["network.0.0.mlp.fc1.weight"].dim() == 4
        return {"divisor": "members" if old else "similarity"}


_REGIONS = {
    "embed.projection": "patch_embed.proj",
    "scale": "layer_scale_",
    "mixer.feature": "token_mixer.f",
    "mixer.value": "token_mixer.v",
    "mixer.assignment": "token_mixer",
    "mixer.": "token_mixer.",
}
_POOL = {"feature": "conv_f", "value": "conv_v", "skip": "conv_skip"}

FAMILIES = {
    "cluenet": Family(
        CLUENet,
        "network.{}.blocks",
        {
            "embed.projection": "patch_embed.proj",
            "embed.norm": "patch_embed.norm",
            "embed.position": "pos_embed.proj.0",
            "mixer.query": "token_mixer.q",
            "mixer.key": "token_mixer.k",
            "mixer.value": "token_mixer.v",
            "mixer.assignment": "token_mixer",
            "mixer.": "token_mixer.",
            "mlp.conv": "mlp.dwconv.dwconv",
            **_POOL,
        },
    ),
    "coc": Family(
        ContextCluster,
        "network.{}",
        # The reducer is one convolution, without a name of its own in ours.
        {**_REGIONS, "weight": "proj.weight", "bias": "proj.bias"},
        ignored=frozenset({"fea_pos"}),  # coordinates, in the first generation
    ),
    "fec": Family(FEC, "network.{}", {**_REGIONS, "norm.": "norm2.", **_POOL}),
}
