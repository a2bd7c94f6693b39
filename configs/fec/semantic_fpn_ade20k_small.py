# Semantic FPN with FEC small on ADE20K, 80,000 iterations.
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
        type="cluenet_mm.FEC",
        arch="small",
        # The paper's for segmentation. Neither is a weight: pretraining may have had
        # others.
        cluster_grids=(10, 10, 5, 5),
        fold_grids=1,
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
    decode_head=dict(num_classes=150),
)
