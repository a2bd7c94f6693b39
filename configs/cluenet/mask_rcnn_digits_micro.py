# Mask R-CNN with CLUENet micro_cifar on scenes of digits shrunk to 64 pixels, from
# scratch: minutes on a CPU. mask_rcnn_digits_micro_pretrained.py differs in one line.
_base_ = [
    "../_base_/models/mask_rcnn_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/mask_rcnn_digits.py",
    "../_base_/default_runtime_det.py",
]

dims = [64, 160, 256]
strides = [2, 4, 8]
model = dict(
    data_preprocessor=dict(
        # Of CIFAR-100, with which the published weights were trained.
        mean=[129.304, 124.070, 112.434],
        std=[68.170, 65.392, 70.418],
    ),
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch="micro_cifar",
        cluster_grids=4,
        out_indices=(1, 2, 3),
    ),
    neck=dict(in_channels=dims),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides),
        mask_roi_extractor=dict(featmap_strides=strides),
    ),
)

_base_.train_dataloader.dataset.pipeline.insert(2, dict(type="Resize", scale=(64, 64)))
_base_.val_dataloader.dataset.pipeline[1].scale = (64, 64)
