"""What a model computes for a batch of images: a tensor in, named tensors out."""

from collections.abc import Sequence
from math import log2
from typing import ClassVar

from torch import Tensor, nn


class ExportError(ValueError):
    """A model that cannot be exported as asked; names the thing and the cure."""


class Graph(nn.Module):
    """The part of a model that is exported.

    Args:
        model: A model of the task.

    Raises:
        ExportError: The model is none whose outputs are known.
    """

    task: ClassVar[str]

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def output_names(self, image: Tensor, outputs: Sequence[Tensor]) -> list[str]:
        """Names of the outputs for an image."""
        raise NotImplementedError

    def open_axes(self, name: str) -> dict[int, str]:
        """Names of the open axes of an output, apart from the batch."""
        return {}


class Classification(Graph):
    """``scores`` ``(N, classes)``: the softmax that the head predicts with.

    Args:
        model: mmpretrain's ``ImageClassifier``.
    """

    task = "classification"

    def __init__(self, model: nn.Module) -> None:
        from mmpretrain.models import ClsHead, ImageClassifier

        head = getattr(model, "head", None)
        if not isinstance(model, ImageClassifier) or not isinstance(head, ClsHead):
            raise ExportError(
                f"cannot export a {_name(model)} with a {_name(head)}: it has "
                "no softmax. Of mmpretrain's models, an ImageClassifier with a ClsHead "
                "exports"
            )
        super().__init__(model)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Classify ``(N, 3, H, W)``, normalized."""
        return (self.model.head(self.model.extract_feat(image)).softmax(dim=1),)

    def output_names(self, image: Tensor, outputs: Sequence[Tensor]) -> list[str]:
        """Names of the outputs."""
        return ["scores"]


class Segmentation(Graph):
    """``logits`` ``(N, classes, H, W)`` and ``labels`` ``(N, H, W)``, int64.

    Args:
        model: mmseg's ``EncoderDecoder``.
    """

    task = "segmentation"

    def __init__(self, model: nn.Module) -> None:
        from mmseg.models import EncoderDecoder

        if type(model) is not EncoderDecoder:
            raise ExportError(
                f"cannot export a {_name(model)}: of mmseg's models, EncoderDecoder "
                "exports"
            )
        super().__init__(model)
        _open_sizes(model)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment ``(N, 3, H, W)``, normalized, at its own size."""
        head, maps = self.model.decode_head, self.model.extract_feat(image)
        metas = [{"img_shape": tuple(image.shape[2:])}]
        logits = head.predict(maps, metas, self.model.test_cfg)
        if head.out_channels == 1:
            return logits, (logits[:, 0].sigmoid() > head.threshold).long()
        return logits, logits.argmax(dim=1)

    def output_names(self, image: Tensor, outputs: Sequence[Tensor]) -> list[str]:
        """Names of the outputs."""
        return ["logits", "labels"]

    def open_axes(self, name: str) -> dict[int, str]:
        """Names of the open axes of an output."""
        return {2: "H", 3: "W"} if name == "logits" else {1: "H", 2: "W"}


class Pyramid(Graph):
    """``p2``, ``p3``, ...: the maps of a detector's neck, of strides 4, 8, ...

    Args:
        model: A detector of mmdet.
    """

    task = "detection"

    def __init__(self, model: nn.Module) -> None:
        from mmdet.models import BaseDetector

        if not isinstance(model, BaseDetector) or not hasattr(model, "backbone"):
            raise ExportError(
                f"cannot export a {_name(model)}: it is not a detector of mmdet"
            )
        super().__init__(model)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps of ``(N, 3, H, W)``, normalized."""
        return tuple(self.model.extract_feat(image))

    def output_names(self, image: Tensor, outputs: Sequence[Tensor]) -> list[str]:
        """Names of the outputs; the first one's stride says where to begin."""
        first = round(log2(image.size(2) / outputs[0].size(2)))
        return [f"p{first + i}" for i in range(len(outputs))]

    def open_axes(self, name: str) -> dict[int, str]:
        """Names of the open axes of an output."""
        return {2: f"H_{name}", 3: f"W_{name}"}


def _open_sizes(model: nn.Module) -> None:
    """Let mmseg's upsampling take sizes that are not numbers yet."""
    from mmseg.models.utils import Upsample

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Upsample) and not child.size:
                same = nn.Upsample(
                    scale_factor=child.scale_factor,
                    mode=child.mode,
                    align_corners=child.align_corners,
                )
                setattr(parent, name, same)


def _name(thing: object) -> str:
    return type(thing).__name__
