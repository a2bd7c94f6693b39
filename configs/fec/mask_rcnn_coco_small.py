# Mask R-CNN with FEC small on COCO, 12 epochs.
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

# As FEC was released: 16 images a step, 4 x 4 devices -> 2e-4, and three smaller steps.
train_dataloader = dict(batch_size=4)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, end=500),
    dict(type="MultiStepLR", milestones=[8, 9, 11], gamma=0.2, end=12),
]

model = dict(
    backbone=dict(
        type="cluenet_mm.FEC",
        arch="small",
        # The paper's for detection: 7 x 7 centers in each of 2 x 2 regions where maps
        # are large. Neither is a weight: pretraining may have had others.
        cluster_grids=7,
        fold_grids=(2, 2, 1, 1),
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
)
