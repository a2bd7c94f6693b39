"""Which clusters a prediction rests on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .trace import Trace, find_backbone

Predictor = Callable[[Tensor], Tensor]
"""Probabilities ``(n, classes)`` of normalized images ``(n, 3, H, W)``, or of maps."""

# Numbers in the images of a forward pass: on a CPU more of them leave its cache (2^18
# are 21 images of 64 x 64 pixels), on a GPU fewer leave it idle.
_CPU_BATCH, _GPU_BATCH = 2**18, 2**22


@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """The pixels behind every cluster of a head that has any.

    Attributes:
        clusters: ``(K,)`` int64, the clusters, ascending.
        masks: ``(K, H, W)`` bool; they do not overlap. A pixel that no window of the
            embedding holds is in none, and without influence. Of the grid ``"map"``
            ``(K, h, w)``, the points of the stage.
    """

    clusters: Tensor
    masks: Tensor


def receptive_fields(
    maps: Trace,
    sample: int = 0,
    stage: int = -1,
    block: int = -1,
    head: int = 0,
    grid: str = "pixels",
) -> ReceptiveFields:
    """Exact sets of input pixels that the clusters of a block stand for.

    A pixel goes to a point of the embedding, from pooling to pooling to a point of the
    stage's map, and with it to a cluster; see :meth:`.Trace.clusters`. (What a point
    *knows* is wider, since convolutions and centers carry messages between points.)

    Args:
        maps: Trace of a batch.
        sample: Image of the batch.
        stage: Stage; the last by default.
        block: Block of the stage; the last by default.
        head: Head of the block.
        grid: Where the masks are: one of :data:`.GRIDS`. The clusters are the same,
            those that have pixels.
    """
    pixels = maps.clusters(stage, block, "pixels")[sample, head]  # (H, W)
    clusters = pixels[pixels >= 0].unique()
    index = maps.clusters(stage, block, grid)[sample, head]
    return ReceptiveFields(clusters, index == clusters[:, None, None])


def class_probabilities(model: nn.Module) -> Predictor:
    """Probabilities of the classes as a function of normalized images.

    Args:
        model: A classifier: softmax of its logits. Or a segmentor, or whatever else
            gives ``(n, classes, h, w)`` in the mode ``"tensor"``: the mean of every
            class's probability over the image.

    Returns:
        A function from ``(n, 3, H, W)`` to ``(n, classes)``, without gradient, on the
        model's device. It raises a ``ValueError`` for other models, detectors above
        all.
    """

    @torch.no_grad()
    def predict(images: Tensor) -> Tensor:
        device = next(model.parameters()).device
        logits = model(images.to(device), mode="tensor")
        if not isinstance(logits, Tensor) or logits.dim() not in (2, 4):
            raise ValueError(
                f"{type(model).__name__} gives no class probabilities for an image; "
                "importance needs a classifier or a segmentor"
            )
        probabilities = logits.float().softmax(1)
        return probabilities.mean((2, 3)) if logits.dim() == 4 else probabilities

    return predict


@dataclass(frozen=True, eq=False)
class Importance:
    """What regions mean for one class.

    Attributes:
        full: Probability of the class for the whole image.
        blanked: ``(K,)``, the probability when the region is blanked.
        kept: ``(K,)``, the probability when everything but the region is blanked.
    """

    full: float
    blanked: Tensor
    kept: Tensor

    @property
    def drop(self) -> Tensor:
        """``(K,)``, by how much blanking the region lowers the probability."""
        return self.full - self.blanked

    @property
    def score(self) -> Tensor:
        """``(K,)``, the importance: mean of ``drop`` and ``kept``, in [-0.5, 1]."""
        return (self.drop + self.kept) / 2

    @property
    def order(self) -> Tensor:
        """``(K,)``, the regions by falling importance; the first of equal ones."""
        return self.score.argsort(descending=True, stable=True)


def importances(
    predict: Predictor,
    image: Tensor,
    masks: Tensor,
    labels: Sequence[int],
    blank: float | Tensor = 0.0,
    batch_size: int | None = None,
) -> list[Importance]:
    """Importance of regions for classes, which share the forward passes.

    The score of a region ``r`` for the class ``c`` is the mean of two numbers::

        ( [p(c | image) - p(c | image with r blanked)] + p(c | r alone) ) / 2

    the drop in probability when the region is blanked (is it necessary?) and the
    probability when only the region is kept (is it sufficient?). Blanked pixels take
    the value ``blank``.

    Args:
        predict: From :func:`class_probabilities`, or any function like it; that of a
            :func:`stage_input`, with its features and masks of points, blanks inside
            the network.
        image: ``(3, H, W)``, normalized.
        masks: ``(K, H, W)`` bool, such as :class:`ReceptiveFields` holds.
        labels: The classes.
        blank: Value of blanked pixels, ``(3,)`` one a channel, or an image of
            ``image``'s shape, normalized. Zero is the mean color of the training data.
        batch_size: Images a forward pass; ``2 K + 1`` are predicted. By default as
            many as suit the device.

    Returns:
        :class:`Importance` for each class, on the CPU.
    """
    kept = torch.cat([torch.ones_like(masks[:1]), ~masks, masks])
    found = masked_probabilities(predict, image, kept, blank, batch_size)
    return [
        Importance(column[0].item(), *column[1:].chunk(2))
        for column in found[:, list(labels)].unbind(1)
    ]


def importance(
    predict: Predictor,
    image: Tensor,
    masks: Tensor,
    label: int,
    blank: float | Tensor = 0.0,
    batch_size: int | None = None,
) -> Importance:
    """Importance of regions for one class; arguments as for :func:`importances`."""
    return importances(predict, image, masks, [label], blank, batch_size)[0]


@dataclass(frozen=True, eq=False)
class StageInput:
    """What the blocks of a stage get of an image, and what they make of it.

    Attributes:
        predict: Probabilities ``(n, classes)`` of maps ``(n, C, h, w)`` in front of the
            stage: only what is behind them runs.
        features: ``(C, h, w)``, the map of the image.
        blank: ``(C, h, w)``, the map of a blank image.
    """

    predict: Predictor
    features: Tensor
    blank: Tensor


@torch.no_grad()
def stage_input(
    model: nn.Module, image: Tensor, stage: int = -1, blank: float | Tensor = 0.0
) -> StageInput:
    """Look at a stage as at a network whose image is the map in front of its blocks.

    Blanking points there is cheap, since the stages in front run once for all regions.
    It is another question than blanking pixels: the points that remain still know what
    earlier stages told them. A point that is blanked takes the features that a blank
    image has at its place, so that with all of them blanked the prediction is that of
    the blank image. Such patches of activations are those of Vig et al., NeurIPS 2020,
    and Geiger et al., NeurIPS 2021; erasing parts of a representation goes back to Li
    et al., arXiv 1612.08220.

    Args:
        model: A classifier of mmpretrain with a clustering backbone.
        image: ``(3, H, W)``, normalized.
        stage: A stage; negative ones count from the end.
        blank: Of the blank image: a value, or ``(3,)`` one a channel.

    Raises:
        IndexError: The stage does not exist.
        ValueError: The model is no such classifier, or its head sees stages in front of
            this one.

    Example:
        >>> inside = stage_input(model, images[0])
        >>> masks = receptive_fields(trace(model, images), grid="map").masks
        >>> importance(inside.predict, inside.features, masks, label, inside.blank)
    """
    backbone = find_backbone(model)
    stage = range(backbone.num_stages)[stage]
    if not hasattr(model, "head") or not hasattr(model, "with_neck"):
        raise ValueError(
            f"cannot blank points of {type(model).__name__}: only classifiers of "
            "mmpretrain are known to use nothing but the backbone. Blank pixels."
        )
    if backbone.out_indices[0] < stage or backbone.nearest_cells:
        raise ValueError(
            f"cannot blank points of stage {stage + 1}: the head sees stages in front "
            "of it, too. Blank pixels."
        )
    image = image.to(next(model.parameters()).device)
    empty = torch.as_tensor(blank, dtype=image.dtype, device=image.device)
    empty = empty.view(-1, 1, 1).expand_as(image)
    seen = []
    handle = backbone.stages[stage][0].register_forward_pre_hook(
        lambda _, args: seen.append(args[0].permute(0, 3, 1, 2))
    )
    try:
        backbone(torch.stack([image, empty]))
    finally:
        handle.remove()

    @torch.no_grad()
    def predict(maps: Tensor) -> Tensor:
        outputs = backbone.forward_from(stage, maps.permute(0, 2, 3, 1))
        if model.with_neck:
            outputs = model.neck(outputs)
        return model.head(outputs).float().softmax(1)

    return StageInput(predict, *seen[0])


def grad_cam(model: nn.Module, images: Tensor, label: int) -> Tensor:
    """Grad-CAM of the backbone's last output.

    Selvaraju et al., ICCV 2017, equations 1 and 2: channels ``A_k`` are weighed by the
    mean over places of ``d y_c / d A_k``, ``L = ReLU(sum_k a_k A_k)``, with the logit
    ``y_c``.

    Args:
        model: A classifier with a clustering backbone. Its mode, and gradients of its
            parameters, are left alone.
        images: ``(B, 3, H, W)``, normalized.
        label: The class ``c``.

    Returns:
        ``(B, H, W)``, from 0, bilinearly enlarged to the images.
    """
    kept = []

    def keep(module: nn.Module, inputs: tuple, outputs: tuple[Tensor, ...]) -> tuple:
        features = outputs[-1].detach().requires_grad_()
        kept.append(features)
        return (*outputs[:-1], features)

    handle = find_backbone(model).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model(images, mode="tensor")
            (gradient,) = torch.autograd.grad(logits[:, label].sum(), kept[0])
    finally:
        handle.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    heat = (weights * kept[0].detach()).sum(1, keepdim=True).relu()
    return nn.functional.interpolate(heat, images.shape[2:], mode="bilinear")[:, 0]


def masked_probabilities(
    predict: Predictor,
    image: Tensor,
    kept: Tensor,
    blank: float | Tensor,
    batch_size: int | None,
) -> Tensor:
    """Probabilities for every mask of pixels that are kept, on the CPU."""
    blank = torch.as_tensor(blank, dtype=image.dtype, device=image.device)
    if blank.dim() < 3:
        blank = blank.view(-1, 1, 1)  # (1 or 3, 1, 1)
    if batch_size is None:
        numbers = _CPU_BATCH if image.device.type == "cpu" else _GPU_BATCH
        batch_size = max(numbers // image.numel(), 1)
    return torch.cat(
        [
            predict(torch.where(part.unsqueeze(1), image, blank)).double().cpu()
            for part in kept.to(image.device).split(batch_size)
        ]
    )
