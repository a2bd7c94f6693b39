"""Whether a partition stays when the image moves, is mirrored or gets noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score

SHIFT = 4
NOISE = 10.0

Partitions = Callable[[np.ndarray], Sequence[np.ndarray]]
"""One or more partitions of an image ``(H, W, 3)``, uint8: ``(H, W)`` integers each."""


@dataclass(frozen=True)
class Stability:
    """Agreement of a partition with that of the changed image; large is good.

    Attributes:
        segments: Number of segments of the image.
        shift: Adjusted Rand index after a shift.
        flip: After a horizontal flip.
        noise: After noise.
    """

    segments: float
    shift: float
    flip: float
    noise: float


def stabilities(
    partitions: Partitions,
    image: np.ndarray,
    shift: int = SHIFT,
    deviation: float = NOISE,
    seed: int = 0,
) -> list[Stability]:
    """How much partitions of an image agree with those of the image changed.

    The partition of the changed image is brought back to the pixels that it came from
    and compared with the partition of the image by the adjusted Rand index (Hubert and
    Arabie, 1985): 1 is the same, 0 chance. That partitions should survive a
    perturbation of the data, and to measure it so, is Ben-Hur, Elisseeff and Guyon, PSB
    2002; von Luxburg, 2010, is an overview. The changes:

    * shift: two windows of the image, ``shift`` pixels apart along both axes, are
      partitioned, and compared where they overlap, so that no pixel is made up;
    * flip: left and right are exchanged;
    * noise: normal, of ``deviation`` on the scale to 255, is added to every channel.

    A single segment is always stable: read this beside the number of segments.

    Args:
        partitions: Called with five images.
        image: ``(H, W, 3)`` uint8, RGB.
        shift: In pixels, less than half a side.
        deviation: Standard deviation of the noise.
        seed: Of the noise.

    Returns:
        One for each partition.

    Raises:
        ValueError: The image is too small for the shift.

    Example:
        >>> image = np.zeros((16, 16, 3), np.uint8)
        >>> dark = lambda image: [image[..., 0] < 128]
        >>> stabilities(dark, image)[0].flip
        1.0
    """
    height, width = image.shape[:2]
    if not 0 <= 2 * shift < min(height, width):
        raise ValueError(
            f"cannot shift an image of {height} x {width} pixels by {shift}. Take less "
            "than half a side."
        )
    generator = np.random.default_rng(seed)
    noisy = np.rint(image + generator.normal(0, deviation, image.shape))
    noisy = noisy.clip(0, 255).astype(np.uint8)
    rows, columns = height - shift, width - shift
    first = partitions(image)
    pairs = {
        "shift": [
            (a[shift:, shift:], b[: rows - shift, : columns - shift])
            for a, b in zip(
                partitions(image[:rows, :columns]),
                partitions(image[shift:, shift:]),
                strict=True,
            )
        ],
        "flip": [
            (a, b[:, ::-1])
            for a, b in zip(first, partitions(image[:, ::-1]), strict=True)
        ],
        "noise": list(zip(first, partitions(noisy), strict=True)),
    }
    return [
        Stability(
            float(len(np.unique(segments))),
            **{
                change: float(adjusted_rand_score(*(p.ravel() for p in found[i])))
                for change, found in pairs.items()
            },
        )
        for i, segments in enumerate(first)
    ]
