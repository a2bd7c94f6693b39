# Mask R-CNN with Context Cluster (CoC) small on COCO, 12 epochs.
# Start from a classifier (that of cls_imagenet_small.py) with one line among the
# options of the backbone:
#     init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone."),
# No checkpoint is published, so the default is from scratch, which needs more
# iterations.
_base_ = [
    "../_base_/models/mask_rcnn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/mask_rcnn_1x.py",
    "../_base_/default_runtime_det.py",
]

# 16 images a step: 2 x 8 devices -> 2e-4 (schedules/mask_rcnn_1x.py).
model = dict(
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        arch="small",
        # 2 x 2 centers a region and the folds of classification, as in the paper.
        # Neither is a weight: pretraining may have had others.
        cluster_grids=2,
        fold_grids=(8, 4, 2, 1),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
