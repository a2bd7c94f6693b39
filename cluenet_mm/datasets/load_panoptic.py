"""Panoptic labels for mmdet without the package panopticapi."""

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.structures.mask import BitmapMasks

from ..registry import TRANSFORMS
from .panoptic_png import read_panoptic

IGNORED = 255


@TRANSFORMS.register_module()
class LoadPanoptic(LoadAnnotations):
    """Load boxes, masks of the things and the semantic map of a panoptic PNG.

    For samples of mmdet's ``CocoPanopticDataset``, in place of mmdet's
    ``LoadPanopticAnnotations``, which asks for a package that is on no index. It adds

    - ``gt_bboxes``: ``HorizontalBoxes``, one a thing;
    - ``gt_bboxes_labels``: ``(N,)`` int64;
    - ``gt_ignore_flags``: ``(N,)`` bool, all False;
    - ``gt_masks``: ``BitmapMasks``, one a thing, in the order of the boxes;
    - ``gt_seg_map``: ``(H, W)`` uint8 classes, first the things, then the stuff; 255
      where no segment is.

    A crowd is not an instance: it is in the semantic map only. Without
    ``seg_map_path``, as in a test set without labels, only the boxes are there.

    Args:
        with_bbox: Whether to load boxes.
        with_label: Whether to load the classes of the boxes.
        with_mask: Whether to load the masks.
        with_seg: Whether to load the semantic map.
        box_type: How boxes are wrapped, see mmdet; None leaves an array.
        backend_args: Options of MMEngine's file backend.

    Raises:
        FileNotFoundError: A sample's PNG is missing.
        ValueError: A PNG is damaged, has another size than its image, or there are
            more classes than the map can hold.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        box_type: str | None = "hbox",
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            box_type=box_type,
            backend_args=backend_args,
        )

    def transform(self, results: dict) -> dict:
        """Add the labels of one sample."""
        if self.with_bbox:
            self._load_bboxes(results)
        if self.with_label:
            self._load_labels(results)
        if (self.with_mask or self.with_seg) and results.get("seg_map_path"):
            self._load_segments(results)
        return results

    def _load_segments(self, results: dict) -> None:
        path = results["seg_map_path"]
        ids = read_panoptic(path, self.backend_args)
        height, width = results.get("ori_shape", ids.shape)
        if ids.shape != (height, width):
            raise ValueError(
                f"panoptic labels {path} have {ids.shape[1]} x {ids.shape[0]} pixels, "
                f"and their image {width} x {height}"
            )
        things = []
        classes = np.full(ids.shape, IGNORED, np.uint8)
        for segment in results["segments_info"]:
            if segment["category"] >= IGNORED:
                raise ValueError(
                    f"class {segment['category']} of {path}: the semantic map holds "
                    f"{IGNORED} classes at most"
                )
            mask = ids == segment["id"]
            classes[mask] = segment["category"]
            if segment["is_thing"]:
                things.append(mask.astype(np.uint8))
        if self.with_mask:
            results["gt_masks"] = BitmapMasks(things, height, width)
        if self.with_seg:
            results["gt_seg_map"] = classes
