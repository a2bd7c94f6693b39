# Semantic segmentation on ADE20K by ClusterFormer tiny and its decoder, 160,000
# iterations. Start from a classifier (that of cls_imagenet_tiny.py) with one line among
# the options of the backbone:
#     init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone."),
_base_ = [
    "../_base_/models/cluster_segmentor.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/cluster_160k.py",
    "../_base_/default_runtime_seg.py",
]

# 16 images a step: 4 x 4 devices -> 1e-4 (schedules/cluster_50e.py).
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(type="cluenet_mm.ClusterFormer", arch="tiny", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
    decode_head=dict(num_classes=150),
)
