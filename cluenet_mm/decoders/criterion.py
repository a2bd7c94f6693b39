"""What the centers learn from: one-to-one matching with objects, and the losses."""

from collections.abc import Sequence

import torch
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmdet.utils import reduce_mean
from mmengine.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..registry import MODELS
from .decoder import Prediction

LOSSES = {
    "cls": {
        "type": "mmdet.CrossEntropyLoss",
        "use_sigmoid": False,
        "loss_weight": 2.0,
    },
    "box": {"type": "mmdet.L1Loss", "loss_weight": 5.0},
    "iou": {"type": "mmdet.GIoULoss", "loss_weight": 2.0},
    "mask": {
        "type": "mmdet.CrossEntropyLoss",
        "use_sigmoid": True,
        "loss_weight": 5.0,
    },
    "dice": {
        "type": "mmdet.DiceLoss",
        "use_sigmoid": True,
        "activate": True,
        "naive_dice": True,
        "eps": 1.0,
        "loss_weight": 5.0,
    },
}
COSTS = {
    "cls": {"type": "mmdet.ClassificationCost", "weight": 2.0},
    "box": {"type": "mmdet.BBoxL1Cost", "weight": 5.0, "box_format": "xywh"},
    "iou": {"type": "mmdet.IoUCost", "weight": 2.0, "iou_mode": "giou"},
    "mask": {"type": "mmdet.CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
    "dice": {"type": "mmdet.DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
}
BOX_TERMS, MASK_TERMS = ("box", "iou"), ("mask", "dice")


class ClusterCriterion(nn.Module):
    """Hungarian matching of centers with objects, and mmdet's losses.

    Sampled centers are matched with things, by Hungarian matching whose cost has the
    terms and weights of the losses. A learned center stands for one class of stuff, and
    there is nothing to match: it is that class, or no object. Masks are compared at
    random points, as in Mask2Former.

    Args:
        num_classes: Classes ``K``; things come before stuff.
        num_sampled: Number of sampled centers; they come first.
        num_learned: Number of learned centers, one for each of the last classes.
        with_box: Whether boxes are predicted.
        with_mask: Whether masks are predicted.
        num_points: Points at which two masks are compared.
        no_object_weight: Weight of "no object" in the classification loss.
        losses: Options of the losses ``cls``, ``box``, ``iou``, ``mask`` and ``dice``
            that differ from ``LOSSES``, such as ``dict(cls=dict(loss_weight=1.0))``.
        costs: The same of the terms of the matching cost, ``COSTS``.

    Raises:
        ValueError: If ``losses`` or ``costs`` name a term that does not exist.
    """

    def __init__(
        self,
        num_classes: int,
        num_sampled: int,
        num_learned: int,
        with_box: bool,
        with_mask: bool,
        num_points: int = 12544,
        no_object_weight: float = 0.1,
        losses: dict[str, dict] | None = None,
        costs: dict[str, dict] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_points = num_points
        self.num_things = num_classes - num_learned
        self.num_sampled = num_sampled
        terms = ["cls", *with_box * BOX_TERMS, *with_mask * MASK_TERMS]
        self.with_box, self.with_mask = with_box, with_mask
        self.losses = nn.ModuleDict()
        for name, cfg in _merged(LOSSES, losses, "losses").items():
            if name == "cls":
                if "class_weight" in cfg:
                    raise ValueError(
                        "losses.cls: set no_object_weight, not class_weight"
                    )
                cfg["class_weight"] = [1.0] * num_classes + [no_object_weight]
            if name in terms:
                self.losses[name] = MODELS.build(cfg)
        costs = _merged(COSTS, costs, "costs")
        self.assigner = TASK_UTILS.build(
            {
                "type": "mmdet.HungarianAssigner",
                "match_costs": [costs[name] for name in terms],
            }
        )

    def forward(
        self, predictions: Sequence[Prediction], objects: Sequence[InstanceData]
    ) -> dict[str, Tensor]:
        """Losses of all predictions.

        Args:
            predictions: Those of the decoder, the last one is the final one.
            objects: Objects of every image: ``labels``, ``bboxes`` in pixels and
                ``masks`` on the canvas of the batch, as far as they are predicted; the
                metainfo holds ``img_shape``.

        Returns:
            ``loss_cls`` and so on of the final prediction, ``d0.loss_cls`` and so on of
            the others.
        """
        total = {}
        # Costs and losses are sums over thousands of points, which fp16 cannot hold.
        with torch.autocast(predictions[0].logits.device.type, enabled=False):
            for i, prediction in enumerate(predictions):
                prefix = "" if i == len(predictions) - 1 else f"d{i}."
                for name, value in self._losses(prediction, objects).items():
                    total[f"{prefix}loss_{name}"] = value
        return total

    @torch.no_grad()
    def match(
        self, prediction: Prediction, objects: Sequence[InstanceData]
    ) -> list[tuple[Tensor, Tensor]]:
        """Centers and objects that belong together: two index tensors an image."""
        pairs = []
        for i, found in enumerate(objects):
            stuff = (found.labels >= self.num_things).nonzero().squeeze(1)
            centers = found.labels[stuff] - self.num_things + self.num_sampled
            if self.num_sampled:
                things = (found.labels < self.num_things).nonzero().squeeze(1)
                sampled, order = self._match_things(prediction, i, found[things])
                centers = torch.cat([sampled, centers])
                stuff = torch.cat([things[order], stuff])
            pairs.append((centers, stuff))
        return pairs

    def _match_things(
        self, prediction: Prediction, i: int, things: InstanceData
    ) -> tuple[Tensor, Tensor]:
        """Sampled centers of image ``i``, and the things that they are matched with.

        A prediction that is not finite is matched as if it were: its loss is not
        finite either, and what to do then is for the optimizer's guard to say.
        """
        rows = slice(self.num_sampled)
        parts = (x if x is None else _finite(x[i, rows]) for x in prediction)
        prediction = Prediction(*parts)
        guess = InstanceData(scores=prediction.logits)
        target = InstanceData(labels=things.labels)
        if self.with_box:
            guess.bboxes = pixels_of(prediction.boxes, things.img_shape)
            target.bboxes = things.bboxes
        if self.with_mask:
            points = torch.rand(1, self.num_points, 2, device=guess.scores.device)
            masks = prediction.masks
            guess.masks = _at(masks, points.expand(len(masks), -1, -1))
            masks = things.masks.float()
            target.masks = _at(masks, points.expand(len(masks), -1, -1))
        result = self.assigner.assign(guess, target, img_meta=things.metainfo).gt_inds
        centers = (result > 0).nonzero().squeeze(1)
        return centers, result[centers] - 1

    def _losses(
        self, prediction: Prediction, objects: Sequence[InstanceData]
    ) -> dict[str, Tensor]:
        pairs = self.match(prediction, objects)
        labels = torch.full(
            prediction.logits.shape[:2],
            self.num_classes,
            dtype=torch.int64,
            device=prediction.logits.device,
        )
        for row, (centers, found), data in zip(labels, pairs, objects, strict=True):
            row[centers] = data.labels[found]
        weight = prediction.logits.new_tensor(self.losses["cls"].class_weight)
        losses = {
            "cls": self.losses["cls"](
                prediction.logits.flatten(0, 1),
                labels.flatten(),
                avg_factor=reduce_mean(weight[labels].sum()),
            )
        }
        matched = sum(len(centers) for centers, _ in pairs)
        count = reduce_mean(prediction.logits.new_tensor([matched])).clamp(min=1).item()
        if self.with_box:
            losses.update(self._box_losses(prediction.boxes, pairs, objects, count))
        if self.with_mask:
            losses.update(self._mask_losses(prediction.masks, pairs, objects, count))
        return losses

    def _box_losses(
        self,
        boxes: Tensor,
        pairs: list[tuple[Tensor, Tensor]],
        objects: Sequence[InstanceData],
        count: float,
    ) -> dict[str, Tensor]:
        guess = _matched(boxes, pairs)  # (matches, 4)
        target = torch.cat(
            [
                fractions_of(data.bboxes[found], data.img_shape)
                for data, (_, found) in zip(objects, pairs, strict=True)
            ]
        )
        corners = bbox_cxcywh_to_xyxy(guess), bbox_cxcywh_to_xyxy(target)
        return {
            "box": self.losses["box"](guess, target, avg_factor=count),
            "iou": self.losses["iou"](*corners, avg_factor=count),
        }

    def _mask_losses(
        self,
        masks: Tensor,
        pairs: list[tuple[Tensor, Tensor]],
        objects: Sequence[InstanceData],
        count: float,
    ) -> dict[str, Tensor]:
        guess = _matched(masks, pairs)  # (matches, h, w)
        if not len(guess):
            return {"mask": guess.sum(), "dice": guess.sum()}
        target = torch.cat(
            [
                data.masks[found].float()
                for data, (_, found) in zip(objects, pairs, strict=True)
            ]
        )
        with torch.no_grad():
            # Three candidates a point; three quarters of the points are the least sure.
            points = get_uncertain_point_coords_with_randomness(
                guess.unsqueeze(1), None, self.num_points, 3.0, 0.75
            )
            target = _at(target, points)
        guess = _at(guess, points)  # (matches, points)
        return {
            "mask": self.losses["mask"](
                guess.flatten(), target.flatten(), avg_factor=count * self.num_points
            ),
            "dice": self.losses["dice"](guess, target, avg_factor=count),
        }


def _merged(
    defaults: dict[str, dict], changes: dict[str, dict] | None, what: str
) -> dict[str, dict]:
    if unknown := set(changes or ()) - set(defaults):
        raise ValueError(
            f"{what} has no {sorted(unknown)}; choose from {sorted(defaults)}"
        )
    return {
        name: {**cfg, **(changes or {}).get(name, {})} for name, cfg in defaults.items()
    }


def _finite(x: Tensor) -> Tensor:
    """Numbers whose costs can be added up, where there are others."""
    return x.nan_to_num(0.0, posinf=1e3, neginf=-1e3)


def _matched(x: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Rows of the matched centers of all images, in order."""
    rows = [row[centers] for row, (centers, _) in zip(x, pairs, strict=True)]
    return torch.cat(rows)


def _at(masks: Tensor, points: Tensor) -> Tensor:
    """Values of masks ``(n, h, w)`` at points ``(n, P, 2)`` in [0, 1]: ``(n, P)``."""
    return point_sample(masks.unsqueeze(1), points).squeeze(1)


def fractions_of(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Corners in pixels to center and size over the sides of the image: ``(n, 4)``."""
    height, width = shape[:2]
    return bbox_xyxy_to_cxcywh(boxes) / boxes.new_tensor([width, height] * 2)


def pixels_of(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """The inverse of :func:`fractions_of`."""
    height, width = shape[:2]
    return bbox_cxcywh_to_xyxy(boxes) * boxes.new_tensor([width, height] * 2)
