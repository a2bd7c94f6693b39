"""The universal decoder in mmseg: semantic segmentation."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

from ..registry import MODELS
from .criterion import ClusterCriterion
from .decoder import ClusterDecoder, Prediction, fractions_of_canvas


@MODELS.register_module()
class ClusterSegHead(BaseModule):
    """The universal decoder as a decode head of mmseg.

    A learned center for each class: it says whether the class is there, and where. The
    score of a class at a pixel is the sum over the centers of class probability times
    mask probability.

    Args:
        in_channels: Channels of the pyramid.
        num_classes: Number of classes.
        decoder: Further options of :class:`ClusterDecoder`.
        criterion: Further options of :class:`ClusterCriterion`.
        ignore_index: Label of pixels that take no part.
        align_corners: How mmseg resizes the scores.
        init_cfg: Initialization config of MMEngine.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        decoder: dict | None = None,
        criterion: dict | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = self.out_channels = num_classes
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.decoder = ClusterDecoder(
            in_channels,
            num_classes,
            sample_grid=None,
            num_learned=num_classes,
            with_box=False,
            **(decoder or {}),
        )
        self.criterion = ClusterCriterion(
            num_classes,
            0,
            num_classes,
            with_box=False,
            with_mask=True,
            **(criterion or {}),
        )

    def forward(
        self, maps: Sequence[Tensor], metas: Sequence[dict] | None = None
    ) -> list[Prediction]:
        """Predictions of all layers; the metas tell what is padding."""
        sizes = None
        if metas is not None:
            shapes = [meta["img_shape"] for meta in metas]
            sizes = fractions_of_canvas(shapes, [_canvas(meta) for meta in metas])
        return self.decoder(maps, sizes)

    def loss(
        self,
        maps: Sequence[Tensor],
        data_samples: Sequence[SegDataSample],
        train_cfg: dict | None,
    ) -> dict[str, Tensor]:
        """Losses of all layers."""
        objects = [self._objects(sample) for sample in data_samples]
        metas = [sample.metainfo for sample in data_samples]
        return self.criterion(self(maps, metas), objects)

    def predict(
        self, maps: Sequence[Tensor], metas: Sequence[dict], test_cfg: dict | None
    ) -> Tensor:
        """Scores ``(B, K, H, W)`` of the classes in the size of the batch."""
        if (test_cfg or {}).get("mode") == "slide":
            # The shape is that of the window, the padding that of the whole image.
            size = metas[0]["img_shape"][:2]
            logits, _, masks = self(maps)[-1]
        else:
            size = _canvas(metas[0])
            logits, _, masks = self(maps, metas)[-1]
        masks = F.interpolate(
            masks, size, mode="bilinear", align_corners=self.align_corners
        )
        classes = logits.softmax(dim=-1)[..., :-1]
        return torch.einsum("blk,blhw->bkhw", classes, masks.sigmoid())

    def _objects(self, sample: SegDataSample) -> InstanceData:
        labels = sample.gt_sem_seg.data[0]
        classes = labels.unique()
        classes = classes[classes != self.ignore_index].long()
        objects = InstanceData(labels=classes, masks=labels == classes[:, None, None])
        objects.set_metainfo({"img_shape": tuple(labels.shape)})
        return objects


def _canvas(meta: dict) -> tuple[int, int]:
    """Rows and columns of the padded batch."""
    height, width = meta["img_shape"][:2]
    left, right, top, bottom = meta.get(
        "img_padding_size", meta.get("padding_size", (0, 0, 0, 0))
    )
    return height + top + bottom, width + left + right
