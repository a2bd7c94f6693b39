"""Reading an official state dict, with errors that name what does not fit."""

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoint import CheckpointError

_SHOWN = 6
# The stride of an embedding is no weight: the releases have 4x4 patches, and 3x3 ones
# that keep the size.
_PATCHES = {4: (4, 4, 0), 3: (3, 1, 1)}

Official = dict[str, Tensor]


class Family(NamedTuple):
    """How one family's release is read.

    Attributes:
        backbone: Our backbone class.
        infer_arch: From an official state dict, and heads per stage where they are
            given, to an ``arch`` dict of the backbone.
        official_name: From our parameter name to the official one.
        options: From an official state dict to the arguments of the backbone that its
            weights need beside ``arch``.
        ignored: Official names that hold no weights.
    """

    backbone: type[nn.Module]
    infer_arch: Callable[[Official, tuple[int, ...] | None], dict]
    official_name: Callable[[str], str]
    options: Callable[[Official], dict]
    ignored: frozenset[str] = frozenset()


def raise_if_any(what: str, names: Collection[str]) -> None:
    """Refuse a checkpoint if there are names to complain of.

    Args:
        what: The complaint.
        names: Official names.

    Raises:
        CheckpointError: If there are names; shows the first of them.
    """
    if names:
        shown = ", ".join(sorted(names)[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise CheckpointError(
            f"the checkpoint does not fit: {what}: {shown}{more}; check that it is a "
            "classification checkpoint of the family that --arch names"
        )


def shape_of(official: Official, name: str) -> torch.Size:
    """Shape of an official parameter, which must be there."""
    if name not in official:
        raise_if_any("is missing", [name])
    return official[name].shape


def count(official: Official, pattern: str) -> int:
    """One more than the largest number that ``pattern`` captures in the names."""
    found = [int(m[1]) for name in official if (m := re.match(pattern, name))]
    return max(found, default=-1) + 1


def infer_pyramid(official: Official, blocks: str) -> dict:
    """What the releases have in common: depths, widths, MLP ratios, embedding.

    Args:
        official: Official names and parameters.
        blocks: Pattern of a stage's blocks, such as ``"network.{}.blocks"``, to be
            filled with the number of the stage in the release's list.

    Returns:
        ``depths``, ``embed_dims``, ``mlp_ratios`` and ``patch`` of an ``arch`` dict.

    Raises:
        CheckpointError: If a parameter that tells them is missing.
    """
    num_stages = (count(official, r"network\.(\d+)\.") + 1) // 2
    names = [blocks.format(2 * i) for i in range(num_stages)]
    if not names:
        raise_if_any("is missing", [f"{blocks.format(0)}.0.norm1.weight"])
    dims = [shape_of(official, f"{name}.0.norm1.weight")[0] for name in names]
    hidden = [shape_of(official, f"{name}.0.mlp.fc1.weight")[0] for name in names]
    kernel_size = shape_of(official, "patch_embed.proj.weight")[-1]
    if kernel_size not in _PATCHES:
        raise CheckpointError(
            f"the checkpoint does not fit: its embedding is {kernel_size} points wide, "
            f"and the releases have {sorted(_PATCHES)}"
        )
    return {
        "depths": tuple(count(official, rf"{re.escape(n)}\.(\d+)\.") for n in names),
        "embed_dims": tuple(dims),
        "mlp_ratios": tuple(h // d for h, d in zip(hidden, dims, strict=True)),
        "patch": _PATCHES[kernel_size],
    }


def rename(name: str, parts: dict[str, str], blocks: str) -> str:
    """Translate one of our names.

    Args:
        name: ``backbone.*`` or ``head.fc.*``.
        parts: Beginnings of names inside a block, a reducer or the embedding, and what
            the release calls them; the first that fits is taken.
        blocks: As for :func:`infer_pyramid`.

    Returns:
        The official name.
    """
    if name.startswith("head.fc."):
        return name.replace("head.fc.", "head.")
    name = name.removeprefix("backbone.")
    if match := re.match(r"norm\d+\.(.*)", name):
        return f"norm.{match[1]}"
    prefix = ""
    if match := re.match(r"stages\.(\d+)\.(\d+)\.(.*)", name):
        prefix, name = f"{blocks.format(2 * int(match[1]))}.{match[2]}.", match[3]
    elif match := re.match(r"reducers\.(\d+)\.(.*)", name):
        prefix, name = f"network.{2 * int(match[1]) + 1}.", match[2]
    for ours, theirs in parts.items():
        if name.startswith(ours):
            return prefix + theirs + name[len(ours) :]
    return prefix + name
