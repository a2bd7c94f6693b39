# Mask R-CNN with CLUENet base on COCO, 12 epochs.
_base_ = "mask_rcnn_coco_small.py"

model = dict(backbone=dict(arch="base"))
