"""Names and architecture of CLUENet's release."""

from ..backbones import CLUENet
from .reading import Family, Official, infer_pyramid, rename, shape_of

_BLOCKS = "network.{}.blocks"
_PARTS = {
    "embed.projection": "patch_embed.proj",
    "embed.norm": "patch_embed.norm",
    "embed.position": "pos_embed.proj.0",
    "mixer.query": "token_mixer.q",
    "mixer.key": "token_mixer.k",
    "mixer.value": "token_mixer.v",
    "mixer.assignment": "token_mixer",
    "mixer.": "token_mixer.",
    "mlp.conv": "mlp.dwconv.dwconv",
    "feature": "conv_f",
    "value": "conv_v",
    "skip": "conv_skip",
}


def _infer_arch(official: Official, num_heads: tuple[int, ...] | None) -> dict:
    # The gates have weights per head, so that the heads need not be given.
    arch = infer_pyramid(official, _BLOCKS)
    gates = [
        shape_of(official, f"{_BLOCKS.format(2 * i)}.0.token_mixer.gate.fc1.weight")
        for i in range(len(arch["depths"]))
    ]
    return arch | {
        "num_heads": tuple(gate[0] for gate in gates),
        "head_dims": gates[0][2] // 2,
        "pool_norm": "network.1.norm2.weight" in official,
    }


CLUENET_FAMILY = Family(
    CLUENet,
    _infer_arch,
    official_name=lambda name: rename(name, _PARTS, _BLOCKS),
    options=lambda official: {},
)
