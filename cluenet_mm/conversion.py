"""Weights of the official releases, renamed for our classifiers.

A release's file is read safely, its architecture is read off the shapes, and every
parameter of the ``ImageClassifier`` that our configs build with it must be met by
exactly one official parameter of the same size.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .backbones import CLUENet
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint

_SHOWN = 6


class Family(NamedTuple):
    """How one family's release is read.

    Attributes:
        backbone: Our backbone class.
        infer_arch: From an official state dict to an ``arch`` dict of the backbone.
        official_name: From our parameter name to the official one.
    """

    backbone: type[nn.Module]
    infer_arch: Callable[[dict[str, Tensor]], dict]
    official_name: Callable[[str], str]


def convert_file(source: str | Path, target: str | Path, family: str) -> dict:
    """Convert a released checkpoint file.

    Args:
        source: What the release saved: a dict with ``model_state_dict``, ``state_dict``
            or ``model``, or a bare state dict.
        target: File to write, ``{'state_dict': ..., 'meta': ...}``. It appears only
            once it is complete.
        family: A key of ``FAMILIES``.

    Returns:
        The ``meta`` that was written: family, ``arch`` (a variant's name, or the
        dict that was inferred), classes and parameters.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        CheckpointError: If it is no readable checkpoint, or its keys do not fit.
    """
    official = find_state_dict(load_checkpoint(source), source)
    state_dict, meta = convert_state_dict(official, family)
    save_checkpoint({"state_dict": state_dict, "meta": meta}, target)
    return meta


def find_state_dict(loaded: object, source: str | Path) -> dict[str, Tensor]:
    """Find the state dict in what a release saved.

    Args:
        loaded: The unpickled object.
        source: Its file, for the error.

    Returns:
        Names and tensors, without the ``module.`` of data-parallel training.

    Raises:
        CheckpointError: If there is none.
    """
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise CheckpointError(
            f"{source} holds no state dict: expected a dict of tensors, or a dict with "
            "one under 'model_state_dict', 'state_dict' or 'model'"
        )
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def convert_state_dict(
    official: dict[str, Tensor], family: str
) -> tuple[dict[str, Tensor], dict]:
    """Rename an official state dict.

    Args:
        official: Official names and parameters.
        family: A key of ``FAMILIES``.

    Returns:
        State dict of our ``ImageClassifier`` (``backbone.*``, ``head.fc.*``) and its
        ``meta``.

    Raises:
        CheckpointError: If a name is missing, unknown, or has another size.
    """
    reader = FAMILIES[family]
    arch = reader.infer_arch(official)
    expected = _expected_shapes(reader.backbone, arch, official)
    names = {reader.official_name(name): name for name in expected}
    _raise_if_any("is missing", names.keys() - official.keys())
    _raise_if_any("matches nothing", official.keys() - names.keys())

    state_dict, wrong = {}, []
    for official_name, name in names.items():
        value, shape = official[official_name], expected[name]
        if value.numel() != shape.numel():
            wrong.append(f"{official_name} {tuple(value.shape)} for {tuple(shape)}")
            continue
        # The releases' 1x1 convolutions are our Linear layers.
        state_dict[name] = value.reshape(shape).clone()
    _raise_if_any("has another size", wrong)

    meta = {
        "family": family,
        "arch": _variant(reader.backbone, arch),
        "num_classes": len(official["head.weight"]),
        "num_parameters": sum(value.numel() for value in state_dict.values()),
    }
    return state_dict, meta


def _expected_shapes(
    backbone: type[nn.Module], arch: dict, official: dict[str, Tensor]
) -> dict[str, torch.Size]:
    """Names and shapes of our classifier of this architecture."""
    if "head.weight" not in official:
        _raise_if_any("is missing", ["head.weight"])
    with torch.device("meta"):
        model = backbone(arch)
        head = nn.Linear(*reversed(official["head.weight"].shape))
    shapes = {f"backbone.{k}": v.shape for k, v in model.state_dict().items()}
    return shapes | {f"head.fc.{k}": v.shape for k, v in head.state_dict().items()}


def _variant(backbone: type[nn.Module], arch: dict) -> str | dict:
    for name, row in backbone.arch_settings.items():
        if row == arch:
            return name
    return arch


def _raise_if_any(what: str, names: set[str] | list[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise CheckpointError(
            f"the checkpoint does not fit: {what}: {shown}{more}; check that it is a "
            "classification checkpoint of the family that --arch names"
        )


def _shape(official: dict[str, Tensor], name: str) -> torch.Size:
    if name not in official:
        _raise_if_any("is missing", [name])
    return official[name].shape


def _count(official: dict[str, Tensor], pattern: str) -> int:
    """One more than the largest number that ``pattern`` captures in the names."""
    found = [int(m[1]) for name in official if (m := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _infer_cluenet(official: dict[str, Tensor]) -> dict:
    num_stages = (_count(official, r"network\.(\d+)\.") + 1) // 2
    if num_stages == 0:
        _raise_if_any("is missing", ["network.0.blocks.0.norm1.weight"])
    blocks = [f"network.{2 * i}.blocks" for i in range(num_stages)]
    dims = [_shape(official, f"{b}.0.norm1.weight")[0] for b in blocks]
    hidden = [_shape(official, f"{b}.0.mlp.fc1.weight")[0] for b in blocks]
    gates = [_shape(official, f"{b}.0.token_mixer.gate.fc1.weight") for b in blocks]
    kernel_size = _shape(official, "patch_embed.proj.weight")[-1]
    return {
        "depths": tuple(_count(official, rf"{re.escape(b)}\.(\d+)\.") for b in blocks),
        "embed_dims": tuple(dims),
        "mlp_ratios": tuple(h // d for h, d in zip(hidden, dims, strict=True)),
        "num_heads": tuple(gate[0] for gate in gates),
        "head_dims": gates[0][2] // 2,
        # The stride is no weight: the releases have these two embeddings.
        "patch": (4, 4, 0) if kernel_size == 4 else (kernel_size, 1, kernel_size // 2),
        "pool_norm": "network.1.norm2.weight" in official,
    }


_CLUENET_PARTS = {
    "embed.projection": "patch_embed.proj",
    "embed.norm": "patch_embed.norm",
    "embed.position": "pos_embed.proj.0",
    "mixer.query": "token_mixer.q",
    "mixer.key": "token_mixer.k",
    "mixer.value": "token_mixer.v",
    "mixer.": "token_mixer.",
    "mlp.conv": "mlp.dwconv.dwconv",
    "feature": "conv_f",
    "value": "conv_v",
    "skip": "conv_skip",
}


def _cluenet_name(name: str) -> str:
    """``backbone.stages.1.0.mixer.key.bias`` to ``network.2.blocks.0...k.bias``."""
    if name.startswith("head.fc."):
        return name.replace("head.fc.", "head.")
    name = name.removeprefix("backbone.")
    if match := re.match(r"norm\d+\.(.*)", name):
        return f"norm.{match[1]}"
    prefix = ""
    if match := re.match(r"stages\.(\d+)\.(\d+)\.(.*)", name):
        prefix, name = f"network.{2 * int(match[1])}.blocks.{match[2]}.", match[3]
    elif match := re.match(r"reducers\.(\d+)\.(.*)", name):
        prefix, name = f"network.{2 * int(match[1]) + 1}.", match[2]
    for ours, theirs in _CLUENET_PARTS.items():
        if name.startswith(ours):
            return prefix + theirs + name[len(ours) :]
    return prefix + name


FAMILIES = {"cluenet": Family(CLUENet, _infer_cluenet, _cluenet_name)}
