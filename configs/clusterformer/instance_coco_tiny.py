# Instances on COCO by ClusterFormer tiny and its decoder, 50 epochs. Start from a
# classifier (that of cls_imagenet_tiny.py) with one line among the options of the
# backbone:
#     init_cfg=dict(type="Pretrained", checkpoint=..., prefix="backbone."),
_base_ = [
    "../_base_/models/cluster_detector.py",
    "../_base_/datasets/coco_instance_lsj.py",
    "../_base_/schedules/cluster_50e.py",
    "../_base_/default_runtime_det.py",
]

# 16 images a step: 2 x 8 devices -> 1e-4 (schedules/cluster_50e.py).
model = dict(
    backbone=dict(type="cluenet_mm.ClusterFormer", arch="tiny", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
    bbox_head=dict(task="instances"),
)
