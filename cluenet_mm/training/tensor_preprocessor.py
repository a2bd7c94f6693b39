"""Augmentation and normalization of whole batches on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class TensorDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's preprocessor for batches of ``cluenet_mm.TensorImages``.

    While training, every image is shifted and mirrored as by mmpretrain's pipeline
    ``RandomCrop(crop_size=size, padding=crop_padding)``, ``RandomFlip(flip_prob)``, all
    images of a batch at once and on the model's device. The random numbers come from
    PyTorch's CPU generator, so that they follow the run's seed (``EpochSeedHook``) and
    are the same on every device.

    Args:
        mean: Mean of the channels, in the range of the images.
        std: Standard deviation of the channels.
        num_classes: Number of classes.
        crop_padding: Zeros around an image before the crop of its size is taken.
        flip_prob: Probability of mirroring an image from left to right.
        batch_augments: mmpretrain's classifiers pass their ``train_cfg.augments``.
            Only ``None`` will do: mixup and its like are not supported here.

    Raises:
        ValueError: ``batch_augments`` is given.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int | None = None,
        crop_padding: int = 0,
        flip_prob: float = 0.0,
        batch_augments: dict | None = None,
    ) -> None:
        if batch_augments is not None:
            raise ValueError(
                "TensorDataPreprocessor knows no batch augmentations; use mmpretrain's "
                "ClsDataPreprocessor, or leave model.train_cfg.augments out"
            )
        super().__init__(mean=mean, std=std, num_classes=num_classes)
        self.crop_padding = crop_padding
        self.flip_prob = flip_prob

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn a batch into the model's input.

        Args:
            data: ``inputs`` (B x 3 x H x W, uint8) and, unless only a prediction is
                wanted, ``labels`` (B).
            training: Whether to augment.

        Returns:
            ``inputs`` (float32, normalized) and ``data_samples``. Heads join the labels
            of the samples before the loss, so that in training one sample stands for
            the batch, with all of its labels: building one an image would cost more
            than the augmentation. For prediction there is one an image, with its
            label on the CPU, where the metrics read it.
        """
        images = self.cast_data(data["inputs"])
        if training:
            images = self.augment(images)
        batch = super().forward({"inputs": images})
        labels = data.get("labels")
        if labels is None:
            return batch
        parts = [self.cast_data(labels)] if training else labels.split(1)
        batch["data_samples"] = [DataSample().set_gt_label(part) for part in parts]
        return batch

    def augment(self, images: Tensor) -> Tensor:
        """Shift and mirror every image (B x 3 x H x W) on its own."""
        count, _, height, width = images.shape
        offsets = torch.randint(2 * self.crop_padding + 1, (2, count))
        flipped = torch.rand(count) < self.flip_prob
        rows, columns = offsets.to(images.device)
        padded = F.pad(images, [self.crop_padding] * 4)
        # All crops as a view: B x 3 x offsets x offsets x H x W.
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)
        chosen = torch.arange(count, device=images.device)
        images = crops[chosen, :, rows, columns]
        flipped = flipped.to(images.device)[:, None, None, None]
        return torch.where(flipped, images.flip(3), images)
