# Mask R-CNN with CLUENet small on COCO, 12 epochs.
_base_ = "mask_rcnn_coco_tiny.py"

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.3),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
