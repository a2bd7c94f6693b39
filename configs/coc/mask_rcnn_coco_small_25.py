# Mask R-CNN with CoC small on COCO, 5 x 5 centers a region.
_base_ = "mask_rcnn_coco_small_4.py"

model = dict(backbone=dict(cluster_grids=5))
