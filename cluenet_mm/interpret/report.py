"""One HTML file in which the clusters of a forward pass can be explored.

The page (the folder ``page`` beside this module) loads nothing: photographs and maps
are inside, the maps as the network made them, a number a point. The browser follows
every pixel through the poolings, so that the page stays small and a cluster lights up
without delay. Every image is an element of the page that is read when somebody looks
at it: many large ones open as fast as one.
"""

import base64
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..files import write_text
from .figures import PALETTE, feature_colors
from .importance import (
    class_probabilities,
    importance,
    receptive_fields,
    stage_input,
)
from .segments import MergeTree
from .trace import Clustering, Trace

# Up to so many pixels a picture is stored without loss: the network saw each of them.
_LOSSLESS_PIXELS = 160 * 160
_JPEG_QUALITY = 93
_THUMBNAIL = 96
# Segments that the slider of the page reaches.
_SEGMENTS = 64
# Two pipelines round the same pixels differently, by so much of 255.
_ROUNDING = 2
# They make one script, in this order.
_SCRIPTS = ("data.js", "view.js", "layout.js", "controls.js")
# What importance may blank: the image, or what a stage gets.
BLANKED = ("pixels", "points")
_NOTHING_RANKED = "No importance was computed."


@dataclass(frozen=True)
class Finding:
    """One line of a prediction.

    Attributes:
        name: Of the class.
        score: In [0, 1]: its probability, confidence or share of the image.
        box: ``(x1, y1, x2, y2)`` in pixels of the picture, of an instance.
    """

    name: str
    score: float
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class RankedCluster:
    """What a cluster means for the class; see :func:`.importance`.

    Attributes:
        layer: Position in the trace's :meth:`.Trace.layers`.
        head: Head of the layer.
        cluster: Number of the cluster.
        score: Mean of ``drop`` and ``kept``.
        drop: By how much blanking it lowers the probability of the class.
        kept: Probability of the class when only it is kept.
    """

    layer: int
    head: int
    cluster: int
    score: float
    drop: float
    kept: float


@dataclass(frozen=True)
class Ranking:
    """Clusters by their importance for one class.

    Attributes:
        name: Of the class.
        probability: Of the class for the whole image.
        clusters: Of all layers that were ranked, in no order.
        blanked: Where, one of ``BLANKED``.
    """

    name: str
    probability: float
    clusters: tuple[RankedCluster, ...]
    blanked: str = "pixels"


@dataclass(frozen=True, eq=False)
class ReportImage:
    """What one network made of one image of a report.

    Attributes:
        name: Shown over the image.
        picture: ``(H, W, 3)`` uint8, RGB: the network's input, or its upper left part
            where it had been padded.
        maps: Trace of that input.
        sample: Which image of the trace it is.
        findings: What was predicted, the best first.
        truth: What the dataset says, if anything.
        ranking: Importance of the clusters, where it was computed.
        findings_title: Heading of the findings; the first image's is shown.
        segments: Of the whole input, merged from all stages.
        cells: Whether the cells of the poolings decide labels, and are shown.
    """

    name: str
    picture: np.ndarray
    maps: Trace
    sample: int = 0
    findings: Sequence[Finding] = ()
    truth: str | None = None
    ranking: Ranking | None = None
    findings_title: str = "Prediction"
    segments: MergeTree | None = None
    cells: bool = False


@dataclass(frozen=True, eq=False)
class ReportNetwork:
    """One network of a report.

    Attributes:
        model: One line about it.
        images: What it made of each image.
        unranked: Why clusters have no importance, where they have none.
    """

    model: str
    images: Sequence[ReportImage]
    unranked: str = _NOTHING_RANKED


def rank_clusters(
    model: nn.Module,
    image: Tensor,
    maps: Trace,
    label: int,
    name: str,
    layers: Sequence[int],
    sample: int = 0,
    blanked: str = "pixels",
) -> Ranking:
    """Importance of every cluster of some layers.

    Args:
        model: A classifier, as for :func:`.class_probabilities`.
        image: ``(3, H, W)``, the normalized input.
        maps: Its trace.
        label: The class.
        name: Of the class.
        layers: Positions in ``maps.layers()``; negative ones count from the end.
        sample: Which image of the trace it is.
        blanked: ``"pixels"`` of the image, or the ``"points"`` that the stage gets (see
            :func:`.stage_input`), which is many times faster in late stages.

    Raises:
        IndexError: The layer does not exist.
        ValueError: ``blanked`` is neither, or :func:`.stage_input` cannot help.
    """
    if blanked not in BLANKED:
        raise ValueError(f"cannot blank {blanked!r}. Take one of {BLANKED}.")
    predict, seen, blank, grid = class_probabilities(model), image, 0.0, "pixels"
    found, full = [], 0.0
    positions = maps.layers()
    for layer in sorted({range(len(positions))[i] for i in layers}):
        stage, block = positions[layer]
        if blanked == "points":
            inside, grid = stage_input(model, image, stage), "map"
            predict, seen, blank = inside.predict, inside.features, inside.blank
        heads = range(maps.blocks[stage][block].index.size(1))
        fields = [
            receptive_fields(maps, sample, stage, block, head, grid) for head in heads
        ]
        masks = torch.cat([field.masks for field in fields])
        result = importance(predict, seen, masks, label, blank)
        full = result.full
        numbers = torch.stack([result.score, result.drop, result.kept], 1).tolist()
        named = [(head, c) for head in heads for c in fields[head].clusters.tolist()]
        found += [
            RankedCluster(layer, *which, *row)
            for which, row in zip(named, numbers, strict=True)
        ]
    return Ranking(name, full, tuple(found), blanked)


def write_report(path: str | Path, networks: Sequence[ReportNetwork]) -> None:
    """Write the report; the file is complete or untouched.

    Args:
        path: The HTML file; its folder is made.
        networks: One network, or two that are shown side by side on the same images.

    Raises:
        ValueError: There is no image, or networks did not see the same pixels.
    """
    images = list(zip(*(network.images for network in networks), strict=True))
    if not images:
        raise ValueError("cannot write a report: it needs at least one image")
    for same in images:
        check_same_pixels(same)
    record = {
        "palette": PALETTE.astype(int).tolist(),
        "networks": [
            {
                "model": network.model,
                "title": network.images[0].findings_title,
                "unranked": network.unranked,
            }
            for network in networks
        ],
        "images": [
            {"name": image.name, "thumbnail": _thumbnail(image.picture)}
            for image, *_ in images
        ],
    }
    first, *more = (
        _element(f"image-{i}", _record(same)) for i, same in enumerate(images)
    )
    parts = {
        "style": _asset("page.css"),
        "script": "\n\n".join(map(_asset, _SCRIPTS)),
        # The script begins before the browser has read the other images.
        "data": f"{_element('report', record)}\n{first}",
        "more": "\n".join(more),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("page.html"))
    write_text(path, page)


def check_same_pixels(images: Sequence[ReportImage]) -> None:
    """Make sure that networks saw the same pixels of an image.

    Args:
        images: What each network made of it.

    Raises:
        ValueError: Their pipelines make different pictures of it.
    """
    first, *others = images
    shape = first.picture.shape
    for other in others:
        seen = other.picture.shape
        if seen != shape:
            reason = (
                f"one sees {shape[1]} x {shape[0]} pixels, "
                f"the other {seen[1]} x {seen[0]}"
            )
        elif np.abs(first.picture.astype(int) - other.picture).max() > _ROUNDING:
            reason = "they see different pixels"
        else:
            continue
        raise ValueError(
            f"cannot show two networks on {first.name}: {reason}. Give both the same "
            "test pipeline."
        )


def _element(name: str, record: dict) -> str:
    """Data of the page."""
    # "<" would let a name end the script element; JSON can spell it otherwise.
    data = json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{data}</script>'


def _record(images: Sequence[ReportImage]) -> dict:
    """One image as JSON, and what every network made of it."""
    picture = images[0].picture
    return {
        "photo": _photo(picture),
        "height": picture.shape[0],
        "width": picture.shape[1],
        "truth": images[0].truth,
        "networks": [_seen(image) for image in images],
    }


def _seen(image: ReportImage) -> dict:
    """What one network made of an image, as JSON."""
    maps, sample = image.maps, image.sample
    height, width = image.picture.shape[:2]
    rows, columns = (
        maps.window.points(pixels, count)[0][:shown].numpy()
        for pixels, count, shown in zip(
            maps.image_size, maps.sizes[0], (height, width), strict=True
        )
    )
    layers = [
        _layer(maps.blocks[stage][block], stage, block, sample)
        for stage, block in maps.layers()
    ]
    return {
        "predictions": [vars(finding) for finding in image.findings],
        "rows": _pack(rows),
        "columns": _pack(columns),
        "sizes": maps.sizes,
        "pools": [_pack(pool[sample].cpu().numpy()) for pool in maps.pools],
        "cells": image.cells,
        "layers": layers,
        "segments": image.segments and _segments(image.segments, height, width),
        "importance": image.ranking
        and vars(image.ranking)
        | {"clusters": [vars(cluster) for cluster in image.ranking.clusters]},
    }


def _segments(tree: MergeTree, height: int, width: int) -> dict:
    """A hierarchy as its finest segments, and the one that each was split from.

    Segments are counted in the order in which they are split off, so that at ``k`` they
    are those from 0 to ``k - 1``, and keep their numbers, and colors, as ``k`` grows.
    """
    finest = np.asarray(tree.cut(_SEGMENTS))[:height, :width]
    _, first, leaf, sizes = np.unique(
        finest, return_index=True, return_inverse=True, return_counts=True
    )
    number = np.zeros(len(sizes), int)  # of every leaf
    parents = [0]
    for k in range(2, _SEGMENTS + 1):
        cut = np.asarray(tree.cut(k))[:height, :width].flat[first]
        for split in range(len(parents)):
            members = np.flatnonzero(number == split)
            for part in _smaller_parts(cut[members], sizes[members]):
                number[members[part]] = len(parents)
                parents.append(split)
    return {"index": _pack(number[leaf.reshape(finest.shape)]), "parents": parents}


def _smaller_parts(labels: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Masks of all but the largest part of a segment that was split."""
    found = np.unique(labels)
    largest = max(found, key=lambda label: sizes[labels == label].sum())
    return [labels == label for label in found if label != largest]


def _layer(clustering: Clustering, stage: int, block: int, sample: int) -> dict:
    """One assignment as JSON; similarities in 256 steps."""
    index = clustering.index[sample].cpu().numpy()  # (G, h, w)
    centers = clustering.centers[sample].float().cpu().numpy()  # (G, K, D)
    similarity = clustering.similarity[sample].float().clamp(0, 1).cpu().numpy()
    colors = [feature_colors(*head) for head in zip(centers, index, strict=True)]
    return {
        "stage": stage,
        "block": block,
        "heads": len(index),
        "clusters": centers.shape[1],
        "index": _pack(index),
        "similarity": _pack(np.rint(255 * similarity).astype(np.uint8)),
        "colors": _pack(np.stack(colors)),
    }


def _pack(values: np.ndarray) -> dict:
    """Non-negative integers as the smallest type that holds them, zlib and base64."""
    dtype = np.min_scalar_type(values.max(initial=0)).newbyteorder("<")
    data = np.ascontiguousarray(values, dtype).tobytes()
    packed = base64.b64encode(zlib.compress(data, 9)).decode()
    return {"kind": dtype.name, "data": packed}


def _thumbnail(picture: np.ndarray) -> str:
    """A small picture as a ``data:`` address."""
    image = Image.fromarray(picture)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _photo(np.asarray(image), lossless=False)


def _photo(picture: np.ndarray, lossless: bool | None = None) -> str:
    """A picture as a ``data:`` address."""
    image, file = Image.fromarray(picture), io.BytesIO()
    if lossless is None:
        lossless = picture.shape[0] * picture.shape[1] <= _LOSSLESS_PIXELS
    kind = "png" if lossless else "jpeg"
    options = {} if lossless else {"quality": _JPEG_QUALITY, "subsampling": 0}
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _asset(name: str) -> str:
    path = files(__package__).joinpath("page", name)
    return path.read_text(encoding="utf-8").rstrip("\n")
