"""Whether a ranking of regions tells the truth: insertion and deletion curves."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .importance import Predictor, importance, masked_probabilities


@dataclass(frozen=True, eq=False)
class Curve:
    """Probability of a class while an image appears or disappears.

    Attributes:
        fractions: ``(K + 1,)`` from 0 to 1, the part of the pixels that has been
            inserted or deleted.
        probabilities: ``(K + 1,)`` at these.
    """

    fractions: np.ndarray
    probabilities: np.ndarray

    @property
    def area(self) -> float:
        """Area under the curve (trapezoids), in [0, 1]."""
        heights = (self.probabilities[1:] + self.probabilities[:-1]) / 2
        return float((heights * np.diff(self.fractions)).sum())


def curves(
    predict: Predictor,
    image: Tensor,
    masks: Tensor,
    order: Tensor,
    label: int,
    blank: float | Tensor = 0.0,
    batch_size: int | None = None,
) -> tuple[Curve, Curve]:
    """Insertion and deletion curve of an order of regions.

    Petsiuk et al., BMVC 2018: the probability while regions are inserted into a blank
    image, and while they are deleted from the whole one. A ranking is faithful where
    the first rises early, with a large area, and the second falls early.

    Args:
        predict: As for :func:`importance`, like the others.
        image: ``(3, H, W)``, normalized.
        masks: ``(K, H, W)`` bool, without overlap. Pixels in none are deleted from the
            beginning, or never.
        order: ``(K,)``, regions, the most important first.
        label: The class.
        blank: Value of pixels that are not there.
        batch_size: Images a forward pass; by default what suits the device.
    """
    first = masks[order.to(masks.device)].cumsum(0, dtype=torch.int32) > 0
    first = torch.cat([torch.zeros_like(masks[:1]), first])
    counts = first.flatten(1).sum(1).double()
    fractions = (counts / counts[-1].clamp(min=1)).cpu().numpy()
    # Both at once: large batches of what may be few.
    kept = torch.cat([first, ~first])
    found = masked_probabilities(predict, image, kept, blank, batch_size)[:, label]
    inserted, deleted = found.numpy().reshape(2, -1)
    return Curve(fractions, inserted), Curve(fractions, deleted)


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the curves of a ranking, and of random ones beside it.

    Attributes:
        insertion: Area of the ranking's insertion curve; large is good.
        deletion: Area of its deletion curve; small is good.
        random_insertion: Mean area over random orders; NaN without any.
        random_deletion: The same of deletion.
        regions: Number of regions.
    """

    insertion: float
    deletion: float
    random_insertion: float
    random_deletion: float
    regions: int


def faithfulness(
    predict: Predictor,
    image: Tensor,
    masks: Tensor,
    label: int,
    blank: float | Tensor = 0.0,
    batch_size: int | None = None,
    random_orders: int = 5,
    seed: int = 0,
    ranking: Tensor | None = None,
) -> Faithfulness:
    """Insertion and deletion areas of the importance ranking and of random ones.

    Args:
        predict: As for :func:`importance`, like the others.
        image: ``(3, H, W)``, normalized.
        masks: ``(K, H, W)`` bool, without overlap.
        label: The class.
        blank: Value of blanked pixels.
        batch_size: Images a forward pass; by default what suits the device.
        random_orders: Random orders to average over.
        seed: Of these orders.
        ranking: ``(K,)``, regions, the most important first, of another method; by
            default :func:`importance` ranks them.
    """
    options = (blank, batch_size)
    if ranking is None:
        ranking = importance(predict, image, masks, label, *options).order
    generator = torch.Generator().manual_seed(seed)
    orders = [ranking]
    orders += [
        torch.randperm(len(masks), generator=generator) for _ in range(random_orders)
    ]
    areas = np.array(
        [
            [c.area for c in curves(predict, image, masks, order, label, *options)]
            for order in orders
        ]
    )
    by_chance = areas[1:].mean(0) if random_orders else [np.nan, np.nan]
    return Faithfulness(*map(float, (*areas[0], *by_chance)), regions=len(masks))
