# Mask R-CNN with FEC large on COCO, 12 epochs.
_base_ = "mask_rcnn_coco_base.py"

model = dict(backbone=dict(arch="large"))
