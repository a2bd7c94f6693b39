"""Test-time augmentation of instance segmentation."""

from collections.abc import Sequence

from mmengine.model import BaseTTAModel
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn
from torchvision.ops import batched_nms

from ..registry import MODELS


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Merge the views of an image by non-maximum suppression, boxes with their masks.

    mmdet's ``DetTTAModel`` refuses masks. Here the instances of all views, flipped
    back, compete within their class, and the mask of the one that stays is kept as it
    is.

    Args:
        module: Detector, or its config.
        iou_threshold: Boxes of one class that overlap more are the same object.
        max_per_img: Instances that are kept at most.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        iou_threshold: float = 0.5,
        max_per_img: int = 100,
    ) -> None:
        super().__init__(module)
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[BaseDataElement]]
    ) -> list[BaseDataElement]:
        """Merge the views of every image.

        Args:
            data_samples_list: For every image its views, whose predictions have been
                scaled back to the original image.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[BaseDataElement]) -> BaseDataElement:
        found = InstanceData.cat([_flipped_back(view) for view in views])
        keep = batched_nms(found.bboxes, found.scores, found.labels, self.iou_threshold)
        merged = views[0]
        merged.pred_instances = found[keep[: self.max_per_img]]
        return merged


def _flipped_back(view: BaseDataElement) -> InstanceData:
    """The instances of a view in the coordinates of the original image."""
    instances = view.pred_instances
    if not view.get("flip", False):
        return instances
    from mmdet.structures.bbox import bbox_flip  # which the view's detector needs too

    direction = view.flip_direction
    restored = InstanceData(scores=instances.scores, labels=instances.labels)
    restored.bboxes = bbox_flip(instances.bboxes, view.ori_shape[:2], direction)
    if "masks" in instances:
        axes = {"horizontal": [2], "vertical": [1], "diagonal": [1, 2]}[direction]
        restored.masks = instances.masks.flip(axes)
    return restored
