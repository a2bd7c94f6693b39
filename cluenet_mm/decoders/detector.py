"""The universal decoder in mmdet: boxes, instances, or panoptic segmentation."""

from collections.abc import Sequence

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.models.seg_heads import MaskFormerFusionHead
from mmdet.models.utils import preprocess_panoptic_gt
from mmdet.structures import DetDataSample
from mmdet.structures.mask import mask2bbox
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor
from torch.nn import functional as F

from ..registry import MODELS
from .criterion import ClusterCriterion, pixels_of
from .decoder import ClusterDecoder, Prediction, fractions_of_canvas

TASKS = ("boxes", "instances", "panoptic")
TEST_CFG = ("max_per_img", "object_mask_thr", "iou_thr", "filter_low_score")


@MODELS.register_module()
class ClusterHead(BaseModule):
    """The universal decoder as a head of mmdet.

    Args:
        task: ``"boxes"``, ``"instances"`` (with masks) or ``"panoptic"`` (masks of
            things and stuff; the boxes help to match centers with objects, and are not
            among the results).
        in_channels: Channels of the pyramid.
        num_things: Classes of things, which come first.
        num_stuff: Classes of stuff; only for ``"panoptic"``.
        sample_grid: Rows and columns of centers that are sampled for things.
        decoder: Further options of :class:`ClusterDecoder`.
        criterion: Further options of :class:`ClusterCriterion`.
        train_cfg: Unused; mmdet's detectors pass it.
        test_cfg: ``max_per_img`` (100); for ``"panoptic"`` also ``object_mask_thr``
            (0.8), ``iou_thr`` (0.8) and ``filter_low_score``, see mmdet's
            ``MaskFormerFusionHead``.
        init_cfg: Initialization config of MMEngine.

    Raises:
        ValueError: If the task or an option of ``test_cfg`` is unknown, or the task
            has no use for stuff.
    """

    def __init__(
        self,
        task: str,
        in_channels: int,
        num_things: int,
        num_stuff: int = 0,
        sample_grid: tuple[int, int] = (10, 10),
        decoder: dict | None = None,
        criterion: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if task not in TASKS:
            raise ValueError(f"task must be one of {TASKS}, not {task!r}")
        if num_stuff and task != "panoptic":
            raise ValueError(f"task {task!r} has no stuff: num_stuff must be 0")
        self.task = task
        self.num_things = num_things
        self.num_classes = num_things + num_stuff
        if unknown := set(test_cfg or ()) - set(TEST_CFG):
            raise ValueError(f"test_cfg has no {sorted(unknown)}; it has {TEST_CFG}")
        self.test_cfg = {"max_per_img": 100, **(test_cfg or {})}
        self.with_mask = task != "boxes"
        self.decoder = ClusterDecoder(
            in_channels,
            self.num_classes,
            sample_grid=sample_grid,
            num_learned=num_stuff,
            with_box=True,
            with_mask=self.with_mask,
            **(decoder or {}),
        )
        self.criterion = ClusterCriterion(
            self.num_classes,
            self.decoder.num_sampled,
            num_stuff,
            True,
            self.with_mask,
            **(criterion or {}),
        )
        if task == "panoptic":
            self.fusion = MaskFormerFusionHead(num_things, num_stuff, self.test_cfg)

    def forward(
        self,
        maps: Sequence[Tensor],
        data_samples: Sequence[DetDataSample] | None = None,
    ) -> list[Prediction]:
        """Predictions of all layers; the samples tell what is padding."""
        sizes = None
        if data_samples is not None:
            shapes = [sample.img_shape for sample in data_samples]
            canvases = [sample.batch_input_shape for sample in data_samples]
            sizes = fractions_of_canvas(shapes, canvases)
        return self.decoder(maps, sizes)

    def loss(
        self, maps: Sequence[Tensor], data_samples: Sequence[DetDataSample]
    ) -> dict[str, Tensor]:
        """Losses of all layers."""
        objects = [self._objects(sample) for sample in data_samples]
        return self.criterion(self(maps, data_samples), objects)

    def predict(
        self,
        maps: Sequence[Tensor],
        data_samples: Sequence[DetDataSample],
        rescale: bool = False,
    ) -> list[InstanceData | PixelData]:
        """Results of every image, in its original size if ``rescale``."""
        logits, boxes, masks = self(maps, data_samples)[-1]
        results = []
        for i, sample in enumerate(data_samples):
            meta = sample.metainfo
            image_masks = None
            if masks is not None:
                image_masks = _resize(masks[i], meta, rescale)
            if self.task == "panoptic":
                results.append(self.fusion.panoptic_postprocess(logits[i], image_masks))
                continue
            corners = pixels_of(boxes[i], meta["img_shape"])
            results.append(
                self._instances(logits[i], corners, image_masks, meta, rescale)
            )
        return results

    def _objects(self, sample: DetDataSample) -> InstanceData:
        truth = sample.gt_instances
        labels, boxes = truth.labels, truth.bboxes
        boxes = getattr(boxes, "tensor", boxes)
        objects = InstanceData(labels=labels, bboxes=boxes)
        if self.with_mask:
            semantic = sample.gt_sem_seg.sem_seg if self.task == "panoptic" else None
            stuff = self.num_classes - self.num_things
            labels, masks = preprocess_panoptic_gt(
                labels, truth.masks, semantic, self.num_things, stuff
            )
            # Stuff has boxes as well: those around its pixels.
            boxes = torch.cat([boxes, mask2bbox(masks[len(boxes) :].bool())])
            objects = InstanceData(labels=labels, bboxes=boxes, masks=masks)
        objects.set_metainfo({"img_shape": sample.img_shape})
        return objects

    def _instances(
        self,
        logits: Tensor,
        boxes: Tensor,
        masks: Tensor | None,
        meta: dict,
        rescale: bool,
    ) -> InstanceData:
        """The best pairs of center and class."""
        scores = logits.softmax(dim=-1)[:, : self.num_things].flatten()
        scores, order = scores.topk(min(self.test_cfg["max_per_img"], len(scores)))
        centers = order // self.num_things
        height, width = meta["img_shape"][:2]
        boxes = boxes[centers]
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        if rescale:
            boxes = boxes / boxes.new_tensor(meta["scale_factor"]).repeat(2)
        results = InstanceData(scores=scores, labels=order % self.num_things)
        results.bboxes = boxes
        if masks is not None:
            masks = masks[centers]
            results.masks = masks > 0
            # How sure the mask is of itself, as in Mask2Former.
            inside = results.masks.flatten(1)
            sure = (masks.sigmoid().flatten(1) * inside).sum(1) / (inside.sum(1) + 1e-6)
            results.scores = scores * sure
        return results


@MODELS.register_module()
class ClusterDetector(SingleStageDetector):
    """Detector of mmdet with a :class:`ClusterHead`: one for all its tasks."""

    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: list[DetDataSample],
        rescale: bool = True,
    ) -> list[DetDataSample]:
        """Add ``pred_instances`` or ``pred_panoptic_seg`` to the samples."""
        maps = self.extract_feat(batch_inputs)
        results = self.bbox_head.predict(maps, batch_data_samples, rescale=rescale)
        if self.bbox_head.task != "panoptic":
            return self.add_pred_to_datasample(batch_data_samples, results)
        for sample, result in zip(batch_data_samples, results, strict=True):
            sample.pred_panoptic_seg = result
        return batch_data_samples


def _resize(masks: Tensor, meta: dict, rescale: bool) -> Tensor:
    """Mask logits ``(L, h, w)`` in the size of the image, without padding."""
    masks = F.interpolate(
        masks[None], meta["batch_input_shape"], mode="bilinear", align_corners=False
    )
    height, width = meta["img_shape"][:2]
    masks = masks[..., :height, :width]
    if rescale and (height, width) != tuple(meta["ori_shape"][:2]):
        masks = F.interpolate(
            masks, meta["ori_shape"][:2], mode="bilinear", align_corners=False
        )
    return masks[0]
