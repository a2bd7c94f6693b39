"""Assignments of one forward pass, recorded by forward hooks."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..backbones.base import ClusterBackbone
from ..layers import HardAssignment

_BLOCK = re.compile(r"stages\.(\d+)\.\d+\.")
_REDUCER = re.compile(r"reducers\.(\d+)\.")


@dataclass
class Trace:
    """Every hard assignment of a forward pass of ``B`` images.

    Attributes:
        sizes: Rows and columns of the map of each stage.
        blocks: Per stage, the assignment of its points to the stage's clusters:
            ``(B, G, h, w)`` int64.
        pools: Per reducer, the cell of the next map that each point of the map in front
            of it was pooled into: ``(B, h, w)`` int64, counted row by row.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    blocks: dict[int, Tensor] = field(default_factory=dict)
    pools: dict[int, Tensor] = field(default_factory=dict)

    def clusters(self, stage: int) -> Tensor:
        """The clusters of a stage, back on the points that the embedding made.

        A point of the first map was pooled into one point of the next, wherever that
        lies, and so on: following it to the stage's map tells its cluster there.

        Args:
            stage: A stage with an entry in ``blocks``.

        Returns:
            ``(B, G, h, w)`` int64 on the first map.
        """
        index = self.blocks[stage].flatten(2)  # (B, G, points of the stage)
        for i in reversed(range(stage)):
            pool = self.pools[i].flatten(1).unsqueeze(1)  # (B, 1, points of map i)
            index = index.gather(2, pool.expand(-1, index.size(1), -1))
        return index.unflatten(2, self.sizes[0])


def find_backbone(model: nn.Module) -> ClusterBackbone:
    """The clustering backbone inside a classifier, detector or segmentor.

    Args:
        model: A model that holds one, or the backbone itself.

    Returns:
        The backbone.

    Raises:
        ValueError: If the model holds none.
    """
    for module in model.modules():
        if isinstance(module, ClusterBackbone):
            return module
    raise ValueError(
        f"{type(model).__name__} holds no clustering backbone to look into"
    )


@torch.no_grad()
def trace(model: nn.Module, images: Tensor) -> Trace:
    """Run the backbone of a model once and record its assignments.

    The model is left as it was: same mode, no hooks.

    Args:
        model: A model with a clustering backbone.
        images: ``(B, 3, H, W)``, as the backbone gets them (normalised).

    Returns:
        The :class:`Trace`, on the images' device.
    """
    backbone = find_backbone(model)
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(_recorder(seen, name))
        for name, module in backbone.named_modules()
        if isinstance(module, HardAssignment)
    ]
    maps: list[Tensor] = []
    handles.append(backbone.embed.register_forward_hook(_collector(maps)))
    handles += [r.register_forward_hook(_collector(maps)) for r in backbone.reducers]
    was_training = backbone.training
    backbone.eval()
    try:
        backbone(images)
    finally:
        backbone.train(was_training)
        for handle in handles:
            handle.remove()

    result = Trace(sizes=[tuple(x.shape[1:3]) for x in maps])
    for name, index in seen.items():
        if match := _BLOCK.match(name):
            stage = int(match[1])
            result.blocks[stage] = index.unflatten(-1, result.sizes[stage])
        elif match := _REDUCER.match(name):
            stage = int(match[1])
            result.pools[stage] = index[:, 0].unflatten(-1, result.sizes[stage])
    return result


def _recorder(seen: dict[str, Tensor], name: str) -> Callable:
    def hook(module: nn.Module, inputs: tuple, assignment: tuple) -> None:
        seen[name] = assignment.index

    return hook


def _collector(maps: list[Tensor]) -> Callable:
    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        maps.append(output)

    return hook
