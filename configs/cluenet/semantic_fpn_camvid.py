# Semantic FPN with CLUENet tiny on CamVid, from scratch. The papers do not use CamVid:
# schedule and augmentation are ours, for a data set of 367 images.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/semantic_fpn_80k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=(320, 320), seg_pad_val=_base_.ignore_index),
    backbone=dict(
        type="cluenet_mm.CLUENet", arch="tiny", cluster_grids=7, drop_path_rate=0.1
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
    decode_head=dict(num_classes=11, ignore_index=_base_.ignore_index),
)

# 16 images a step: 16 x 1 device -> 4e-4, higher than with pretrained weights.
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=0.05), clip_grad=dict(max_norm=5.0)
)
_base_.param_scheduler[0].end = 8000
train_cfg = dict(max_iters=8000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
