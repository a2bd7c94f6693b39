# Panoptic segmentation on COCO by ClusterFormer tiny and its decoder, 50 epochs. Start
# from a classifier as in instance_coco_tiny.py.
_base_ = [
    "../_base_/models/cluster_detector.py",
    "../_base_/datasets/coco_panoptic.py",
    "../_base_/schedules/cluster_50e.py",
    "../_base_/default_runtime_det.py",
]

# 16 images a step: 2 x 8 devices -> 1e-4 (schedules/cluster_50e.py).
model = dict(
    backbone=dict(type="cluenet_mm.ClusterFormer", arch="tiny", drop_path_rate=0.2),
    neck=dict(in_channels=[96, 192, 384, 768]),
    bbox_head=dict(task="panoptic", num_stuff=53),
)
default_hooks = dict(checkpoint=dict(save_best="coco_panoptic/PQ", rule="greater"))
