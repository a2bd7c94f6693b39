# Semantic FPN with CLUENet tiny on images and label maps of your own, from scratch.
# Schedule and augmentation are ours, for a few hundred images.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/segmentation_folder.py",
    "../_base_/schedules/semantic_fpn_8k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=(320, 320)),
    backbone=dict(
        type="cluenet_mm.CLUENet", arch="tiny", cluster_grids=7, drop_path_rate=0.1
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
    decode_head=dict(num_classes=2),
)
default_hooks = dict(checkpoint=dict(interval=1000))
