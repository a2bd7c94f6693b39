# Semantic FPN with FEC small on CamVid, from scratch; schedule and augmentation are
# those of cluenet/semantic_fpn_camvid.py.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/semantic_fpn_8k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=(320, 320), seg_pad_val=_base_.ignore_index),
    backbone=dict(
        type="cluenet_mm.FEC",
        arch="small",
        cluster_grids=(10, 10, 5, 5),
        fold_grids=1,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
    decode_head=dict(num_classes=11, ignore_index=_base_.ignore_index),
)
default_hooks = dict(checkpoint=dict(interval=1000))
