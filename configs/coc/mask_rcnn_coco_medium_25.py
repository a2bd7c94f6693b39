# Mask R-CNN with CoC medium on COCO, 5 x 5 centers a region.
_base_ = "mask_rcnn_coco_medium_4.py"

model = dict(backbone=dict(cluster_grids=5))
