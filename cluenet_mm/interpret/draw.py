"""Pictures of assignments."""

import cv2
import numpy as np

# Qualitative palette of Okabe and Ito, told apart by colour-blind readers as well;
# more clusters than colours repeat it darker.
PALETTE = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (170, 170, 170),
    ],
    dtype=np.float64,
)
_DARKEN = 0.72
_BORDER = 255


def cluster_colors(count: int) -> np.ndarray:
    """Distinct colours.

    Args:
        count: How many.

    Returns:
        ``(count, 3)`` uint8, RGB.
    """
    turns, slots = np.divmod(np.arange(count), len(PALETTE))
    return (PALETTE[slots] * _DARKEN ** turns[:, None]).astype(np.uint8)


def cluster_panel(
    image: np.ndarray, index: np.ndarray, opacity: float = 0.6
) -> np.ndarray:
    """Draw a cluster map over the image.

    Only the clusters that have members get a colour, in the order of their
    first pixel, so that the colours spread over what there is.

    Args:
        image: ``(H, W, 3)`` uint8.
        index: ``(h, w)`` integers, the cluster of each point of the map.
        opacity: Weight of the clusters' colours, in [0, 1].

    Returns:
        ``(H, W, 3)`` uint8, with a light line between clusters.
    """
    height, width = image.shape[:2]
    _, first, members = np.unique(index, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[members].reshape(index.shape)
    rank = cv2.resize(
        rank.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    panel = (1 - opacity) * image + opacity * cluster_colors(rank.max() + 1)[rank]
    panel[:, 1:][rank[:, 1:] != rank[:, :-1]] = _BORDER
    panel[1:][rank[1:] != rank[:-1]] = _BORDER
    return panel.astype(np.uint8)
