"""Clusters over a training: pictures of ``ClusterVisualizationHook`` put together."""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import atomic_write
from ..inference.images import read_image

FORMATS = ("png", "gif", "webp")
_PICTURE = re.compile(r"clusters_(\d+)_(\d+)\.png")
_LABEL = 18  # height of a line in pixels
_SECONDS = 0.7  # a picture of an animation


def hook_pictures(work_dir: str | Path) -> dict[int, dict[int, Path]]:
    """Pictures that the hook left in the folder of a training.

    Args:
        work_dir: Of the training. Where it was resumed, the later run's picture of an
            iteration counts.

    Returns:
        By position in the validation set, the pictures by their iteration, in order.

    Raises:
        FileNotFoundError: There is none.
    """
    found: dict[int, dict[int, Path]] = {}
    for path in sorted(Path(work_dir).glob("*/vis_data/vis_image/clusters_*.png")):
        if name := _PICTURE.fullmatch(path.name):
            position, iteration = map(int, name.groups())
            found.setdefault(position, {})[iteration] = path
    if not found:
        raise FileNotFoundError(
            f"cannot find pictures of clusters in {work_dir}: train with "
            "custom_hooks=[dict(type='cluenet_mm.ClusterVisualizationHook')]"
        )
    return {i: dict(sorted(pictures.items())) for i, pictures in sorted(found.items())}


def write_epochs(pictures: dict[int, Path], path: Path, limit: int) -> None:
    """Write the pictures of one image as a strip or an animation; whole or not at all.

    Args:
        pictures: By iteration, from :func:`hook_pictures`.
        path: A ``.png`` becomes a strip, from top to bottom; a ``.gif`` or ``.webp`` an
            animation.
        limit: At most so many pictures, evenly spread, the last one included, and the
            first if there may be two.

    Raises:
        UnreadableImageError: A picture is damaged.
    """
    number = min(limit, len(pictures))
    chosen = np.linspace(len(pictures) - 1, 0, number).round().astype(int)[::-1]
    iterations = np.array(list(pictures))[chosen].tolist()
    frames = [_labeled(pictures[i], f"iteration {i}") for i in iterations]
    kind = path.suffix[1:]
    if kind == "png":
        width = max(frame.width for frame in frames)
        strip = Image.new("RGB", (width, sum(f.height for f in frames)), "white")
        top = 0
        for frame in frames:
            strip.paste(frame, (0, top))
            top += frame.height
        frames = [strip]
    animation = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": round(1000 * _SECONDS),
        "loop": 0,
        "quality": 90,  # of webp
    }
    with atomic_write(path) as temporary:
        frames[0].save(temporary, kind, **({} if kind == "png" else animation))


def _labeled(path: Path, text: str) -> Image.Image:
    """A picture under a line of text."""
    picture = Image.fromarray(read_image(path))
    frame = Image.new("RGB", (picture.width, picture.height + _LABEL), "white")
    font = ImageFont.load_default(13)
    ImageDraw.Draw(frame).text((4, 1), text, fill="black", font=font)
    frame.paste(picture, (0, _LABEL))
    return frame
