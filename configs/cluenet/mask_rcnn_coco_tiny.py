# Mask R-CNN with CLUENet tiny on COCO, 12 epochs. Start from a classifier (that of
# cls_imagenet_tiny.py) with one line among the options of the backbone:
#     init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone."),
# No checkpoint is published, so the default is from scratch, which needs more epochs.
_base_ = [
    "../_base_/models/mask_rcnn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/mask_rcnn_1x.py",
    "../_base_/default_runtime_det.py",
]

# 16 images a step: 2 x 8 devices -> 2e-4 (schedules/mask_rcnn_1x.py).
model = dict(
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch="tiny",
        # 49 centers in every stage, as in classification: the last map of an 800 x 1344
        # image has 25 x 42 points, more than 7 x 7 centers as it had at 224 pixels, and
        # weights from pretraining meet the number of centers that they know.
        cluster_grids=7,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
)
