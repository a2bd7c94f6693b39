# Mask R-CNN with FEC base on COCO, 12 epochs.
_base_ = "mask_rcnn_coco_small.py"

model = dict(backbone=dict(arch="base"), neck=dict(in_channels=[64, 128, 320, 512]))
