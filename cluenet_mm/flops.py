"""Parameters and multiply-accumulate operations (MACs) of a model, part by part.

One MAC is a multiplication and an addition; ``torch.utils.flop_counter`` counts it as
two FLOPs. Matrix products and convolutions count, element-wise work does not. Models
run on PyTorch's meta device, so that no image is too large to be counted.

Two counts are given:

* *executed*: what our code does, attention included, with the implementation that the
  config chooses. Searching by tiles makes the same products as the dense table.
* *published*: the operators of the dense official code that a counter sees. It is the
  convention of the published tables and of ``macs_per_second``. For the mixers it is
  :func:`_official_cluenet_mixer` and :func:`_official_region_mixer`; for all else it is
  what is executed. So it is for ClusterFormer, whose release does not run: shares and
  means count as dense products in every iteration.
"""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .backbones.cluenet import ClusterAttention
from .backbones.region import RegionMixer
from .building import building
from .config import read_config
from .tasks import TASKS


def open_config(name: str) -> Config:
    """Load a config.

    Args:
        name: A path, the name of a config of this package such as
            ``cluenet/cls_digits.py``, or ``mmpretrain::poolformer/...`` (``mmdet::``,
            ``mmseg::``) for one of OpenMMLab's.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It cannot be read, or describes no model with a backbone.
    """
    library, separator, path = name.partition("::")
    if separator:
        if library not in TASKS:  # MMEngine would try to install it
            known = ", ".join(f"{library}::" for library in TASKS)
            raise FileNotFoundError(f"config {name}: the libraries are {known}")
        try:
            cfg = get_config(name)
        except (FileNotFoundError, ValueError):
            raise FileNotFoundError(f"{library} has no config {path}") from None
    else:
        cfg = read_config(name)
    if "backbone" not in cfg.get("model", {}):
        raise ValueError(f"config {name} describes no model with a backbone")
    return cfg


def build(model: dict, scope: str | None) -> nn.Module:
    """Build a model or a backbone from its config; no weights are fetched.

    Args:
        model: Config of the model.
        scope: Default scope of the config: the library that resolves its types.

    Raises:
        BuildError: A part of it cannot be built.
    """
    with DefaultScope.overwrite_default_scope(scope), building({"model": model}):
        return MODELS.build(ConfigDict(deepcopy(model)))


@dataclass
class Part:
    """Size and cost of one part of a model for one image.

    Attributes:
        name: Attribute path of the part.
        parameters: Number of its parameters.
        published: MACs in the published convention.
        executed: MACs that our code executes.
    """

    name: str
    parameters: int
    published: int
    executed: int


def count_config(cfg: Config, shape: tuple[int, int]) -> list[Part]:
    """Count the model of a config; of a detector, what it runs up to the neck.

    Args:
        cfg: The config.
        shape: Height and width of the image.

    Returns:
        As :func:`count_macs`.
    """
    scope = cfg.get("default_scope")
    model = {"data_preprocessor": cfg.get("data_preprocessor"), **cfg.model}
    method = "extract_feat" if scope == "mmdet" else "forward"
    return count_macs(build(model, scope), shape, method)


class _Call(nn.Module):
    """Calls a method of a model, so that the counter's names begin with the model."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, images: Tensor) -> None:
        getattr(self.model, self.method)(images)


def count_macs(
    model: nn.Module, shape: tuple[int, int], method: str = "forward"
) -> list[Part]:
    """Count every part of a model in the order in which they run.

    Args:
        model: Moved to the meta device, in evaluation mode: of no use afterwards.
        shape: Height and width of the image.
        method: What to count: called with an image ``(1, 3, height, width)``.

    Returns:
        The parts: children of the model and of its backbone, where lists and sequences
        stand for what is in them. Parts without parameters and MACs are left out.
    """
    model.to("meta").eval()  # which returns nothing in some backbones
    call = _Call(model, method)
    official = Counter[str]()
    handles = [
        module.register_forward_pre_hook(
            lambda module, inputs, name=name: official.update(
                {name: _OFFICIAL[type(module)](module, inputs[0])}
            )
        )
        for name, module in model.named_modules()
        if type(module) in _OFFICIAL
    ]
    counter = FlopCounterMode(display=False)
    # The fused attention of the CPU has no formula; the composed one is counted.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call(torch.empty(1, 3, *shape, device="meta"))
    for handle in handles:
        handle.remove()
    # In the order in which modules begin to count; a name is `_Call.model.<path>`.
    macs = {
        name.removeprefix("_Call.model").removeprefix("."): sum(flops.values()) // 2
        for name, flops in counter.get_flop_counts().items()
    }

    def executed(name: str, module: nn.Module) -> int:
        if name in macs:
            return macs[name]
        # A list does not run, what is in it does.
        return sum(executed(f"{name}.{k}", v) for k, v in module.named_children())

    parts, ranks, rank = [], {}, 0
    for name, module in _parts(model):
        own = executed(name, module)
        mixers = [mixer for mixer in official if mixer.startswith(f"{name}.")]
        change = sum(official[mixer] - macs[mixer] for mixer in mixers)
        parts.append(Part(name, _size(module), own + change, own))
        inside = (i for i, n in enumerate(macs) if f"{n}.".startswith(f"{name}."))
        # A part that counts nothing, such as a norm, stays behind those before it.
        ranks[name] = min(inside, default=rank)
        rank = max(rank, ranks[name])
    parts.sort(key=lambda part: ranks[part.name])
    # Parameters and products of a module that has children of its own as well.
    rest = counter.get_total_flops() // 2 - sum(part.executed for part in parts)
    size = _size(model) - sum(part.parameters for part in parts)
    parts.append(Part("(other)", size, rest, rest))
    return [part for part in parts if part.parameters or part.executed]


def total(parts: list[Part]) -> Part:
    """The sum over all parts."""
    return Part(
        "total",
        sum(part.parameters for part in parts),
        sum(part.published for part in parts),
        sum(part.executed for part in parts),
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    parts = []
    for name, child in model.named_children():
        if name == "backbone":
            parts += [(f"backbone.{key}", part) for key, part in _parts(child)]
        elif isinstance(child, nn.ModuleList | nn.Sequential):
            parts += [(f"{name}.{key}", part) for key, part in child.named_children()]
        else:
            parts.append((name, child))
    return parts


def _official_cluenet_mixer(mixer: ClusterAttention, x: Tensor) -> int:
    """What a counter sees of CLUENet's mixer in the official code.

    Keys, values and output projected for the whole map (the projected maps are pooled),
    the gate, and dispatching as a product of the points-by-centers table with the
    centers. Attention runs in FlashAttention, of which a counter sees nothing. The
    first block of a stage also projects the centers and makes a table of similarities.
    """
    batch, height, width, channels = x.shape
    points = height * width
    centers = mixer.cluster_grid[0] * mixer.cluster_grid[1]
    inner = mixer.key.out_features
    head = inner // mixer.num_heads
    macs = 3 * points * channels * inner
    macs += mixer.num_heads * centers * (2 * head + 1) * (head // 2)
    macs += points * centers * inner
    if mixer.assigns:
        macs += centers * inner * inner + points * centers * inner
    return batch * macs


def _official_region_mixer(mixer: RegionMixer, x: Tensor) -> int:
    """What a counter sees of the mixers of Context Cluster and FEC in their releases.

    Features, values and output projected for the whole map, and the table of
    similarities inside the regions. Aggregating and dispatching multiply element by
    element there, of which a counter sees nothing.
    """
    batch, height, width, channels = x.shape
    centers = mixer.cluster_grid[0] * mixer.cluster_grid[1]
    inner = mixer.value.out_features
    return batch * height * width * inner * (3 * channels + centers)


_OFFICIAL = {
    ClusterAttention: _official_cluenet_mixer,
    RegionMixer: _official_region_mixer,
}
