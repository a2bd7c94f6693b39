# Semantic FPN with CLUENet micro_cifar on CamVid at a third of its size, from scratch:
# minutes on a CPU. semantic_fpn_camvid_micro_pretrained.py differs in one line.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/semantic_fpn_8k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(
        size=(96, 96),
        # Of CIFAR-100, with which the published weights were trained.
        mean=[129.304, 124.070, 112.434],
        std=[68.170, 65.392, 70.418],
        seg_pad_val=_base_.ignore_index,
    ),
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch="micro_cifar",
        cluster_grids=4,
        out_indices=(1, 2, 3),  # strides 2, 4 and 8
    ),
    neck=dict(in_channels=[64, 160, 256], out_channels=64, num_outs=3),
    decode_head=dict(
        in_channels=[64, 64, 64],
        in_index=[0, 1, 2],
        feature_strides=[2, 4, 8],
        channels=64,
        num_classes=11,
        ignore_index=_base_.ignore_index,
    ),
)

_base_.train_dataloader.dataset.pipeline[2].scale = (160, 120)  # RandomResize
_base_.train_dataloader.dataset.pipeline[3].crop_size = (96, 96)  # RandomCrop
_base_.test_pipeline[1] = dict(type="Resize", scale=(160, 120))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(type="cluenet_mm.GuardedAmpOptimWrapper", dtype="bfloat16")
train_cfg = dict(max_iters=300, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=10))
