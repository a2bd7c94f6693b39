# Semantic FPN with Context Cluster (CoC) small on ADE20K, 80,000 iterations.
# The paper, from pretrained weights: 36.6 mIoU.
# Start from a classifier (that of cls_imagenet_small.py) with one line among the
# options of the backbone:
#     init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone."),
# No checkpoint is published, so the default is from scratch, which needs more
# iterations.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/semantic_fpn_80k.py",
    "../_base_/default_runtime_seg.py",
]

# 16 images a step: 4 x 4 devices -> 1e-4 (schedules/semantic_fpn_80k.py).
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        arch="small",
        # 2 x 2 centers a region and the folds of classification, as in the paper.
        # Neither is a weight: pretraining may have had others.
        cluster_grids=2,
        fold_grids=(8, 4, 2, 1),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
    decode_head=dict(num_classes=150),
)
