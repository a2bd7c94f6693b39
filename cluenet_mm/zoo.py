"""Networks by name: published ones from Python, and all of them for mmpretrain."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from torch import Tensor, nn

from .checkpoint import dataset_meta, load_checkpoint, load_weights
from .config import read_config, tested_dataset, type_name
from .inference.images import read_image
from .inference.model import build_model
from .interpret import class_probabilities, find_backbone, to_input, trace
from .package_data import data_path
from .weights import published

__all__ = ["DEFAULT", "LoadedModel", "load_model", "published_model", "register_models"]

# The network of a tool that is given only images.
DEFAULT = "cluenet_micro_cifar100"

# Steps of a test pipeline that change the size of an image.
_SIZING = ("CenterCrop", "Resize", "ResizeEdge")
# Configs of CIFAR and of the digits have none: their images have this side already.
_SMALL_SIDE = 32


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network with its weights; :func:`load_model` makes one.

    Images are batches ``(N, 3, H, W)`` as :meth:`transform` makes them; several of one
    size are joined by ``torch.cat``.

    Attributes:
        model: The model of MMEngine, in evaluation mode.
        config: Its config.
        classes: Names of the classes; empty where nothing names them.
    """

    model: nn.Module
    config: Config
    classes: tuple[str, ...]

    def transform(self, image: str | Path | np.ndarray) -> Tensor:
        """Resize, crop and normalize an image as in a test of this network.

        Args:
            image: A file, or ``(H, W, 3)`` uint8, RGB.

        Returns:
            ``(1, 3, H, W)`` fp32 on the device of the model.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file cannot be decoded.
        """
        if not isinstance(image, np.ndarray):
            image = read_image(image)
        pipeline = tested_dataset(self.config).get("pipeline", [])
        steps = [s for s in pipeline if type_name(s) in _SIZING] or _small_steps()
        found = {"img": image, "img_shape": image.shape[:2]}
        with DefaultScope.overwrite_default_scope(self.config.get("default_scope")):
            for step in steps:
                found = TRANSFORMS.build(step)(found)
        return to_input(self.model, found["img"])

    def predict(self, images: Tensor, topk: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of every image.

        Args:
            images: ``(N, 3, H, W)``.
            topk: So many classes, fewer where there are not so many.

        Returns:
            Per image, names (or numbers, where nothing names the classes) and
            probabilities, the most probable class first. Those of a segmentor are means
            over the image.

        Raises:
            ValueError: The model is a detector.
        """
        found = class_probabilities(self.model)(images)
        values, labels = found.topk(min(topk, found.size(1)))
        return [
            [
                (self.classes[label] if self.classes else str(label), value)
                for label, value in zip(*pairs, strict=True)
            ]
            for pairs in zip(labels.tolist(), values.tolist(), strict=True)
        ]

    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """What every stage of the backbone gives to the next one.

        Args:
            images: ``(N, 3, H, W)``.

        Returns:
            One map ``(N, C_i, h_i, w_i)`` a stage.
        """
        backbone = find_backbone(self.model)
        with _outputs([stage[-1] for stage in backbone.stages]) as found:
            backbone(images.to(self._device))
        return tuple(x.permute(0, 3, 1, 2) for x, _ in found)

    def clusters(self, images: Tensor, stage: int = -1, block: int = -1) -> Tensor:
        """The cluster of every pixel; :func:`cluenet_mm.interpret.trace` tells more.

        Args:
            images: ``(N, 3, H, W)``.
            stage: A stage; negative ones count from the end.
            block: A block of the stage; negative ones count from the end.

        Returns:
            ``(N, heads, H, W)`` int64: numbers of clusters, from 0.
        """
        return trace(self.model, images.to(self._device)).clusters(
            stage, block, grid="image"
        )

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def _small_steps() -> list[dict]:
    """Transforms to the size of CIFAR's images and of the digits."""
    return [
        {"type": "ResizeEdge", "scale": _SMALL_SIDE, "edge": "short"},
        {"type": "CenterCrop", "crop_size": _SMALL_SIDE},
    ]


def published_model(
    name: str = DEFAULT, cfg_options: dict | None = None
) -> tuple[Config, str]:
    """Config and address of published weights, for photographs of any size.

    Args:
        name: Name of published weights.
        cfg_options: Values for fields of the config, by dotted key.

    Returns:
        The config, whose test pipeline resizes and crops, and the checkpoint's address.
    """
    cfg = read_config(published()[name].config, cfg_options)
    dataset = tested_dataset(cfg)
    if not any(type_name(step) in _SIZING for step in dataset.pipeline):
        place = len(dataset.pipeline) - 1  # before the packing
        dataset.pipeline[place:place] = _small_steps()
    return cfg, f"cluenet_mm://{name}"


@contextmanager
def _outputs(modules: list[nn.Module]) -> Iterator[list]:
    """Collect what modules return inside the block."""
    found: list = []
    handles = [
        module.register_forward_hook(lambda _, __, output: found.append(output))
        for module in modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def load_model(
    name: str | Config, checkpoint: str | None = None, device: str = "cpu"
) -> LoadedModel:
    """Load a network, ready for images.

    Args:
        name: Name of published weights, such as ``cluenet_micro_cifar100``; or with a
            ``checkpoint`` a config, its path, or its name in this package.
        checkpoint: Weights of exactly that model: a file, or an address with one of the
            schemes of :mod:`cluenet_mm.checkpoint.schemes`.
        device: Where the model runs.

    Raises:
        ValueError: No published weights have this name.
        FileNotFoundError: The config or file does not exist.
        CheckpointError: The weights cannot be read, or are those of another model.

    Examples:
        >>> import cluenet_mm
        >>> net = cluenet_mm.load_model("cluenet_micro_cifar100")
        >>> image = net.transform("photo.jpg")
        >>> classes = net.predict(image)[0]  # [("wolf", 0.81), ...]
        >>> features = net.features(image)  # four maps, (1, C, h, w)
        >>> clusters = net.clusters(image)  # (1, heads, H, W)
    """
    table = published()
    if checkpoint is None:
        if not isinstance(name, str) or name not in table:
            known = ", ".join(sorted(table)) or "none yet"
            shown = name if isinstance(name, str) else "of a config"
            raise ValueError(
                f"cannot load model {shown}: it has no published weights. Give a "
                f"checkpoint, or one of: {known}."
            )
        name, checkpoint = table[name].config, f"cluenet_mm://{name}"
    if isinstance(name, str):
        name = read_config(name)
    loaded = load_checkpoint(checkpoint)
    model = build_model(name)
    load_weights(model, loaded, checkpoint)
    classes = tuple(map(str, dataset_meta(loaded).get("classes", ())))
    return LoadedModel(model.to(device), name, classes)


@cache  # mmpretrain takes every name once
def register_models(index: str | Path | None = None) -> None:
    """Make the networks of this package known to mmpretrain by their names.

    From then on ``mmpretrain.list_models``, ``get_model`` and the inferencers find
    those of our metafiles; ``pretrained=True`` loads the weights of those that are
    published.

    Args:
        index: Another model-index file, with configs relative to its folder.

    Examples:
        >>> import cluenet_mm, mmpretrain
        >>> cluenet_mm.register_models()
        >>> mmpretrain.list_models("*cluenet*")
        >>> model = mmpretrain.get_model("cluenet-micro_cifar100", pretrained=True)
    """
    from mmpretrain.apis.model import ModelHub  # takes seconds

    path = Path(index or data_path("model-index.yml"))
    ModelHub.register_model_index(path, config_prefix=path.parent)
