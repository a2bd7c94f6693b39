"""Photographs to normalized inputs, and back."""

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn


def to_input(model: nn.Module, image: np.ndarray) -> Tensor:
    """Normalize a photograph as the model's data preprocessor does, at its own size.

    Args:
        model: Classifier, detector or segmentor.
        image: ``(H, W, 3)`` uint8, RGB, which is what all our backbones see.

    Returns:
        ``(1, 3, H, W)`` fp32 on the model's device.
    """
    mean, std = _statistics(model)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(mean.device)
    return (pixels.permute(2, 0, 1).float() - mean).div(std).unsqueeze(0)


def to_picture(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """The photograph behind a normalized input.

    Args:
        model: Model whose data preprocessor made the input.
        inputs: ``(3, H, W)`` or ``(1, 3, H, W)``.

    Returns:
        ``(H, W, 3)`` uint8, RGB.
    """
    mean, std = _statistics(model)
    pixels = inputs.reshape(inputs.shape[-3:]).to(mean.device) * std + mean
    return pixels.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def _statistics(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, ``(3, 1, 1)`` each."""
    preprocessor = getattr(model, "data_preprocessor", None)
    mean = getattr(preprocessor, "mean", None)
    if mean is None:  # nothing is normalized
        one = next(model.parameters()).new_ones(3, 1, 1)
        return 0 * one, one
    return mean.float(), preprocessor.std.float()


def from_sample(model: nn.Module, sample: Mapping) -> tuple[Tensor, np.ndarray]:
    """Input and photograph of one sample, padded as in a test of the model.

    Args:
        model: Classifier, detector or segmentor.
        sample: What a dataset's pipeline packs: ``inputs`` and ``data_samples``.

    Returns:
        ``(1, 3, H, W)``, normalized, and its upper left part that is not padding,
        ``(h, w, 3)`` uint8, RGB.
    """
    height, width = sample["inputs"].shape[-2:]
    batch = pseudo_collate([sample])
    inputs = model.data_preprocessor(batch, training=False)["inputs"]
    return inputs, to_picture(model, inputs)[:height, :width]


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """Positions of at most ``limit`` of ``count`` things, evenly spread."""
    wanted = count if limit is None else min(limit, count)
    return [i * count // wanted for i in range(wanted)]
