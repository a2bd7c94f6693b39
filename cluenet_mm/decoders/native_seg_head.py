"""Native segmentation: a head of mmseg whose masks are the network's own clusters."""

from collections.abc import Sequence

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Membership
from ..registry import MODELS

UPSAMPLINGS = ("hard", "soft", "bilinear")


@MODELS.register_module()
class NativeSegHead(BaseDecodeHead):
    """Linear classifiers of the points of some stages, handed back along memberships.

    A cell of the last stage gets logits from its feature alone, and every point of the
    stage in front of it that was pooled into the cell gets these logits, down to the
    first stage. Where finer stages have a classifier, a point adds its own logits to
    those that it is handed. There is no other layer, so the label of a point is
    explained by the cells that it belongs to. The nearest published idea is SeNaTra
    (arXiv 2505.16993); the releases of the four families have nothing of the kind.

    The backbone must hand its memberships out: ``nearest_cells=1``, or more where
    ``upsample="soft"`` or ``purity_weight`` asks for it. There must be no neck.

    Args:
        in_channels: Channels of the last stages of the backbone, one entry for each
            stage that gets a classifier, in ascending order.
        num_classes: Number ``K`` of classes.
        upsample: How logits come to the finer stage: ``"hard"`` from the cell that a
            point was pooled into; ``"soft"`` from its nearest cells, weighted by the
            softmax of ``cosine / temperature``; ``"bilinear"`` by place, the control
            experiment, which needs no memberships to follow.
        temperature: Of the softmax.
        purity_weight: Weight of :func:`purity_loss`, which pulls the points of one
            class into common cells; 0 for none.
        loss_decode: As in mmseg.
        ignore_index: Label of pixels that take no part.
        align_corners: How mmseg resizes the logits of the points to the pixels.
        init_cfg: Initialization config of MMEngine.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from cluenet_mm.backbones import CLUENet
        >>> backbone = CLUENet("tiny", out_indices=(2, 3), nearest_cells=1)
        >>> head = NativeSegHead([196, 320], num_classes=11)
        >>> head(backbone(torch.rand(1, 3, 64, 96))).shape
        torch.Size([1, 11, 16, 24])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        upsample: str = "hard",
        temperature: float = 0.1,
        purity_weight: float = 0.0,
        loss_decode: dict | Sequence[dict] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if upsample not in UPSAMPLINGS:
            raise ValueError(f"upsample must be one of {UPSAMPLINGS}, not {upsample!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        if not purity_weight >= 0:
            raise ValueError(f"purity_weight must not be negative: {purity_weight}")
        in_channels = list(in_channels)
        super().__init__(
            in_channels,
            in_channels[-1],
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0.0,
            in_index=list(range(len(in_channels))),
            input_transform="multiple_select",
            loss_decode=loss_decode or {"type": "mmseg.CrossEntropyLoss"},
            ignore_index=ignore_index,
            align_corners=align_corners,
            init_cfg=init_cfg,
        )
        self.upsample = upsample
        self.temperature = temperature
        self.purity_weight = purity_weight
        # `conv_seg` of mmseg's base classifies the last stage, with the only bias.
        self.finer = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 1, bias=False)
            for channels in in_channels[:-1]
        )
        for classifier in (*self.finer, self.conv_seg):
            nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)

    def forward(self, inputs: Sequence[Tensor | tuple[Membership, ...]]) -> Tensor:
        """Logits ``(B, K, h, w)`` of the points of the first stage.

        Args:
            inputs: What the backbone returns: maps ``(B, C_i, h_i, w_i)`` of its last
                stages and the memberships of all but the last stage.

        Raises:
            ValueError: If the backbone gives no memberships, or too few cells, or maps
                of other stages.
        """
        maps, memberships = self._parts(inputs)
        classifiers = [*self.finer, self.conv_seg]
        first = len(memberships) + 1 - len(maps)  # the finest stage with a classifier
        logits = classifiers[-1](maps[-1])
        for stage in reversed(range(len(memberships))):
            logits = self._finer(logits, memberships[stage])
            if stage >= first:
                logits = logits + classifiers[stage - first](maps[stage - first])
        return logits

    def loss(
        self,
        inputs: Sequence[Tensor | tuple[Membership, ...]],
        batch_data_samples: Sequence[SegDataSample],
        train_cfg: dict | None,
    ) -> dict[str, Tensor]:
        """Losses of the logits, and of the memberships if their purity is asked for.

        Raises:
            ValueError: As for :meth:`forward`, or if the label maps differ in size.
        """
        sizes = {tuple(s.gt_sem_seg.data.shape[-2:]) for s in batch_data_samples}
        if len(sizes) > 1:
            raise ValueError(
                f"cannot train on a batch of label maps of the sizes {sorted(sizes)}: "
                "they must be equal. Set size in the data preprocessor, which pads."
            )
        losses = super().loss(inputs, batch_data_samples, train_cfg)
        if self.purity_weight:
            labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
            shares = label_shares(
                labels, self.num_classes, inputs[-1][0].index.shape[2:]
            )
            losses["loss_purity"] = self.purity_weight * purity_loss(
                shares, inputs[-1], self.temperature
            )
        return losses

    def _finer(self, logits: Tensor, membership: Membership) -> Tensor:
        if self.upsample == "bilinear":
            return resize(
                logits,
                membership.index.shape[2:],
                mode="bilinear",
                align_corners=self.align_corners,
            )
        if self.upsample == "hard":
            return hand_back(logits, membership.index[:, :1])
        weights = (membership.similarity.float() / self.temperature).softmax(dim=1)
        return hand_back(logits, membership.index, weights.to(logits.dtype))

    def _parts(
        self, inputs: Sequence[Tensor | tuple[Membership, ...]]
    ) -> tuple[list[Tensor], tuple[Membership, ...]]:
        """Maps and memberships, checked."""
        *maps, memberships = inputs
        compares = self.upsample == "soft" or self.purity_weight > 0
        if isinstance(memberships, Tensor):
            raise ValueError(
                "cannot hand labels back: the backbone returns maps alone. Set "
                f"nearest_cells={9 if compares else 1} among its options, and no neck."
            )
        if len(maps) != len(self.in_channels) or len(maps) > len(memberships) + 1:
            raise ValueError(
                f"cannot classify {len(maps)} maps of {len(memberships) + 1} stages: "
                f"in_channels names {len(self.in_channels)}. Set out_indices of the "
                "backbone to its last stages, one for each entry of in_channels."
            )
        for stage, x in enumerate(maps[:-1], len(memberships) + 1 - len(maps)):
            size = memberships[stage].index.shape[2:]
            if x.shape[2:] != size:
                raise ValueError(
                    f"cannot classify a map of {tuple(x.shape[2:])} points: stage "
                    f"{stage} has {tuple(size)}. Set out_indices of the backbone to "
                    "its last stages, without a gap."
                )
        if compares and any(m.similarity is None for m in memberships):
            raise ValueError(
                "cannot weigh the nearest cells: the backbone gives one cell a point. "
                "Set nearest_cells above 1 among its options."
            )
        return maps, memberships


def hand_back(x: Tensor, index: Tensor, weights: Tensor | None = None) -> Tensor:
    """Give every point what its cells have.

    Args:
        x: ``(B, C, h', w')`` of the cells.
        index: ``(B, K, h, w)`` int64, cells counted row by row.
        weights: ``(B, K, h, w)``; ``None`` where ``K`` is 1.

    Returns:
        ``(B, C, h, w)``: ``sum_k weights[k] * x[index[k]]``.
    """
    batch, count, height, width = index.shape
    flat = index.reshape(batch, 1, -1).expand(-1, x.size(1), -1)
    found = x.flatten(2).gather(2, flat)  # (B, C, K * h * w)
    found = found.view(batch, x.size(1), count, height, width)
    if weights is None:
        return found[:, :, 0]
    return (found * weights.unsqueeze(1)).sum(dim=2)


def label_shares(labels: Tensor, num_classes: int, size: Sequence[int]) -> Tensor:
    """Share of every class in the pixels of every point.

    Args:
        labels: ``(B, H, W)`` int64; those outside ``[0, num_classes)`` do not count.
        num_classes: Number ``C`` of classes.
        size: Rows and columns of the points.

    Returns:
        ``(B, C, h, w)`` in fp32; the sum over classes is 0 for a point without a label.
    """
    known = (labels >= 0) & (labels < num_classes)
    one_hot = F.one_hot(labels.masked_fill(~known, 0), num_classes)
    one_hot = (one_hot * known.unsqueeze(-1)).permute(0, 3, 1, 2).float()
    shares = F.adaptive_avg_pool2d(one_hot, tuple(size))
    return shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-6)


def purity_loss(
    shares: Tensor, memberships: Sequence[Membership], temperature: float
) -> Tensor:
    """Cross-entropy of the labels of points under those of their nearest cells.

    A cell has the mean of the labels of its members. The label of a point is predicted
    by its nearest cells, weighted by the softmax of ``cosine / temperature``: the loss
    is small where points lie near to cells of their class. Its gradient reaches the
    similarities alone, which no arg-max passes on.

    Args:
        shares: ``(B, C, h, w)`` from :func:`label_shares`, for the first stage.
        memberships: Of all stages but the last, with similarities.
        temperature: Of the softmax.

    Returns:
        The mean over points and stages, a scalar in fp32.
    """
    losses = []
    for stage, membership in enumerate(memberships):
        weight = shares.sum(dim=1)  # (B, h, w)
        joined = membership.index[:, :1].flatten(2)  # (B, 1, N)
        height, width = shares.shape[2:]
        if stage + 1 < len(memberships):
            size = memberships[stage + 1].index.shape[2:]
        else:
            size = (height + 1) // 2, (width + 1) // 2
        cells = shares.new_zeros(*shares.shape[:2], size[0] * size[1])
        cells.scatter_add_(2, joined.expand(-1, shares.size(1), -1), shares.flatten(2))
        cells = cells / cells.sum(dim=1, keepdim=True).clamp(min=1e-6)
        cells = cells.unflatten(2, size)
        weights = (membership.similarity.float() / temperature).softmax(dim=1)
        predicted = hand_back(cells, membership.index, weights)
        entropy = -(shares * predicted.clamp(min=1e-4).log()).sum(dim=1)
        losses.append(entropy.sum() / weight.sum().clamp(min=1))
        shares = cells
    return torch.stack(losses).mean()
