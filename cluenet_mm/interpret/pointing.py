"""The grid pointing game: does what speaks for a class lie where the class is?"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pointing:
    """How well heat maps find the images of their classes in a grid of four.

    Attributes:
        share: Part of the positive heat that lies in the image of the class; 1/4 by
            chance.
        hit: Whether the largest heat lies in it; 1/4 by chance.
        regions: Number of regions that have heat, 0 where pixels have.
    """

    share: float
    hit: float
    regions: float = 0.0


def pointing_game(heat: Tensor, regions: int = 0) -> Pointing:
    """The grid pointing game of four images, as a mean over its four classes.

    ``share`` is the localization metric of Böhle, Fritz and Schiele, CVPR 2021: the
    positive heat inside the image of the class, over all of it. ``hit`` is the pointing
    game of Zhang et al., IJCV 126 (2018), with an image of the grid in place of an
    object; of pixels that share the maximum the part inside counts. A map without
    positive heat points nowhere and counts as chance.

    Args:
        heat: ``(4, H, W)``, that of the class of each image, row by row of the grid;
            ``H`` and ``W`` are even.
        regions: Number of regions, for the record.

    Example:
        >>> pointing_game(torch.ones(4, 8, 8))
        Pointing(share=0.25, hit=0.25, regions=0)
    """
    heat = heat.double().clamp(min=0)
    height, width = heat.shape[1] // 2, heat.shape[2] // 2
    # (4, 2, h, 2, w) -> (4, 2, 2, h, w) -> (4, 4, h * w)
    cells = heat.view(4, 2, height, 2, width).transpose(2, 3).flatten(1, 2).flatten(2)
    most = cells == cells.amax((1, 2), keepdim=True)
    share, hit = (
        (part.diagonal().T.sum(1) / part.sum((1, 2))).nan_to_num(0.25).mean().item()
        for part in (cells, most.double())
    )
    return Pointing(share, hit, regions)


def region_heat(scores: Tensor, masks: Tensor) -> Tensor:
    """Heat maps ``(n, H, W)`` of scores ``(n, K)`` of the regions ``(K, H, W)``."""
    return torch.einsum("nk,khw->nhw", scores.double(), masks.double())


def tile(images: Iterable[Tensor]) -> Tensor:
    """Four images ``(3, H, W)`` as one, ``(3, 2 H, 2 W)``, row by row."""
    first, second, third, fourth = images
    return torch.cat([torch.cat([first, second], 2), torch.cat([third, fourth], 2)], 1)


def grids_of_four(
    images: Iterable[tuple[Tensor, int, Tensor]], count: int
) -> list[dict[int, Tensor]]:
    """Choose the images that are classified rightly with the most confidence.

    Args:
        images: Image ``(3, H, W)``, its class, and the probabilities of the classes.
        count: At most so many grids.

    Returns:
        Grids of four images by their classes, which differ; the surest come first.
    """
    right = [
        (probabilities[label].item(), label, image)
        for image, label, probabilities in images
        if probabilities.argmax() == label
    ]
    grids: list[dict[int, Tensor]] = [{} for _ in range(count)]
    for _, label, image in sorted(right, key=lambda r: -r[0]):
        for grid in grids:
            if len(grid) < 4 and label not in grid:
                grid[label] = image
                break
    return [grid for grid in grids if len(grid) == 4]
