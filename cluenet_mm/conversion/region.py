"""Names and architectures of the releases of Context Cluster and FEC."""

from functools import partial

from ..backbones import FEC, ContextCluster
from ..backbones.region import RegionBackbone
from ..checkpoint import CheckpointError
from .reading import Family, Official, infer_pyramid, rename, shape_of

_BLOCKS = "network.{}"
_PARTS = {
    "embed.projection": "patch_embed.proj",
    "scale": "layer_scale_",
    "mixer.feature": "token_mixer.f",
    "mixer.value": "token_mixer.v",
    "mixer.assignment": "token_mixer",
    "mixer.": "token_mixer.",
}
_FEC_PARTS = _PARTS | {
    "norm.": "norm2.",
    "feature": "conv_f",
    "value": "conv_v",
    "skip": "conv_skip",
}
# Context Cluster's reducer is one convolution, without a name of its own in ours.
_COC_PARTS = _PARTS | {"weight": "proj.weight", "bias": "proj.bias"}


def _infer_arch(
    backbone: type[RegionBackbone],
    official: Official,
    num_heads: tuple[int, ...] | None,
) -> dict:
    """The architecture, with the heads of the variant whose shapes these are.

    No weight tells the heads of a stage from their width, only the product.
    """
    arch = infer_pyramid(official, _BLOCKS)
    widths = [
        shape_of(official, f"{_BLOCKS.format(2 * i)}.0.token_mixer.f.weight")[0]
        for i in range(len(arch["depths"]))
    ]
    if num_heads is None:
        for row in backbone.arch_settings.values():
            known = [heads * row["head_dims"] for heads in row["num_heads"]]
            if known == widths and arch.items() <= row.items():
                return dict(row)
        raise CheckpointError(
            "the checkpoint is of no variant of the release, and its heads cannot be "
            "read off the shapes: give --num-heads, one number per stage"
        )
    head_dims = widths[0] // num_heads[0] if num_heads[0] else 0
    if [heads * head_dims for heads in num_heads] != widths:
        raise CheckpointError(
            f"--num-heads {' '.join(map(str, num_heads))} does not fit the stages: "
            f"their heads are together {', '.join(map(str, widths))} wide"
        )
    return arch | {"num_heads": num_heads, "head_dims": head_dims}


def _coc_options(official: Official) -> dict:
    # The first generation of weights has 1x1 convolutions in its MLPs.
    old = official["network.0.0.mlp.fc1.weight"].dim() == 4
    return {"divisor": "members" if old else "similarity"}


COC_FAMILY = Family(
    ContextCluster,
    partial(_infer_arch, ContextCluster),
    official_name=lambda name: rename(name, _COC_PARTS, _BLOCKS),
    options=_coc_options,
    # Coordinates, which the first generation stored.
    ignored=frozenset({"fea_pos"}),
)
FEC_FAMILY = Family(
    FEC,
    partial(_infer_arch, FEC),
    official_name=lambda name: rename(name, _FEC_PARTS, _BLOCKS),
    options=lambda official: {},
)
