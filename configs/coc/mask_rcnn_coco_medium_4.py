# Mask R-CNN with CoC medium on COCO, 2 x 2 centers a region.
_base_ = "mask_rcnn_coco_small_4.py"

model = dict(backbone=dict(arch="medium"))
