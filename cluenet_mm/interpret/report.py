"""One HTML file in which the clusters of a forward pass can be explored.

The page (``report.html``, ``report.css`` and ``report.js`` beside this module) loads
nothing: photographs and maps are inside, the maps as the network made them, a number a
point. The browser follows every pixel through the poolings, so that the page stays
small and a cluster lights up without delay.
"""

import base64
import html
import io
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..files import write_text
from .figures import PALETTE, feature_colors
from .importance import Predictor, importance, receptive_fields
from .trace import Clustering, Trace

# Up to so many pixels a picture is stored without loss: the network saw each of them.
_LOSSLESS_PIXELS = 160 * 160
_JPEG_QUALITY = 93
_KINDS = (("u8", np.uint8), ("u16", np.uint16), ("u32", np.uint32))
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
        drop: By how much blanking its pixels lowers the probability of the class.
        kept: Probability of the class when only its pixels are kept.
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
    """

    name: str
    probability: float
    clusters: tuple[RankedCluster, ...]


@dataclass(frozen=True, eq=False)
class ReportImage:
    """One image of a report.

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
    """

    name: str
    picture: np.ndarray
    maps: Trace
    sample: int = 0
    findings: Sequence[Finding] = ()
    truth: str | None = None
    ranking: Ranking | None = None
    findings_title: str = "Prediction"


def rank_clusters(
    predict: Predictor,
    image: Tensor,
    maps: Trace,
    label: int,
    name: str,
    layers: Sequence[int],
    sample: int = 0,
    batch_size: int = 32,
) -> Ranking:
    """Importance of every cluster of some layers, head by head.

    Args:
        predict: From :func:`.class_probabilities`.
        image: ``(3, H, W)``, the normalized input.
        maps: Its trace.
        label: The class.
        name: Of the class.
        layers: Positions in ``maps.layers()``; negative ones count from the end.
        sample: Which image of the trace it is.
        batch_size: Images a forward pass; every cluster takes two.
    """
    found, full = [], 0.0
    positions = maps.layers()
    for layer in sorted({i % len(positions) for i in layers}):
        stage, block = positions[layer]
        for head in range(maps.blocks[stage][block].index.size(1)):
            fields = receptive_fields(maps, sample, stage, block, head)
            result = importance(
                predict, image, fields.masks, label, batch_size=batch_size
            )
            full = result.full
            numbers = zip(
                fields.clusters.tolist(),
                result.score.tolist(),
                result.drop.tolist(),
                result.kept.tolist(),
                strict=True,
            )
            found += [RankedCluster(layer, head, *row) for row in numbers]
    return Ranking(name, full, tuple(found))


def write_report(
    path: str | Path,
    images: Sequence[ReportImage],
    model: str,
    *,
    title: str = "What the network clustered",
    unranked: str = _NOTHING_RANKED,
) -> None:
    """Write the report; the file is complete or untouched.

    Args:
        path: The HTML file; its folder is made.
        images: The images, all of one model.
        model: One line about the model.
        title: Heading of the page.
        unranked: Why clusters have no importance, where they have none.

    Raises:
        ValueError: There is no image.
    """
    if not images:
        raise ValueError("a report needs at least one image")
    record = {
        "model": model,
        "titles": {"predictions": images[0].findings_title, "unranked": unranked},
        "palette": PALETTE.astype(int).tolist(),
        "images": [_record(image) for image in images],
    }
    # "<" would let a name end the script element; JSON can spell it otherwise.
    data = json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(title),
        "style": _asset("report.css"),
        "script": _asset("report.js"),
        "data": data,
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("report.html"))
    write_text(path, page)


def _record(image: ReportImage) -> dict:
    """One image as JSON."""
    maps, sample = image.maps, image.sample
    picture = image.picture
    rows, columns = (
        maps.window.points(pixels, count)[0][:shown].numpy()
        for pixels, count, shown in zip(
            maps.image_size, maps.sizes[0], picture.shape[:2], strict=True
        )
    )
    return {
        "name": image.name,
        "photo": _photo(picture),
        "truth": image.truth,
        "predictions": [vars(finding) for finding in image.findings],
        "rows": _pack(rows),
        "columns": _pack(columns),
        "sizes": maps.sizes,
        "pools": [_pack(pool[sample].cpu().numpy()) for pool in maps.pools],
        "layers": [
            _layer(maps.blocks[stage][block], stage, block, sample)
            for stage, block in maps.layers()
        ],
        "importance": image.ranking and _importance(image.ranking),
    }


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


def _importance(ranking: Ranking) -> dict:
    clusters = [
        {k: round(v, 5) if isinstance(v, float) else v for k, v in vars(c).items()}
        for c in ranking.clusters
    ]
    return {
        "name": ranking.name,
        "probability": ranking.probability,
        "clusters": clusters,
    }


def _pack(values: np.ndarray) -> dict:
    """Non-negative integers as the smallest type that holds them, zlib and base64."""
    kind, dtype = next(k for k in _KINDS if values.max(initial=0) <= np.iinfo(k[1]).max)
    data = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()
    return {"kind": kind, "data": base64.b64encode(zlib.compress(data, 9)).decode()}


def _photo(picture: np.ndarray) -> str:
    """A picture as a ``data:`` address."""
    image, file = Image.fromarray(picture), io.BytesIO()
    if picture.shape[0] * picture.shape[1] <= _LOSSLESS_PIXELS:
        kind = "png"
        image.save(file, "PNG")
    else:
        kind = "jpeg"
        image.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").rstrip("\n")
