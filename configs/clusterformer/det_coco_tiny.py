# Boxes on COCO by ClusterFormer tiny and its decoder, 50 epochs.
_base_ = "instance_coco_tiny.py"

model = dict(
    # Boxes need no map of stride 4: nothing is predicted for every pixel.
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(in_channels=[192, 384, 768]),
    bbox_head=dict(task="boxes"),
)
val_evaluator = dict(metric="bbox")
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
