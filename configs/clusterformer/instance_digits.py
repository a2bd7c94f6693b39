# Instances by ClusterFormer's decoder on scenes of handwritten digits: minutes on
# a CPU.
_base_ = [
    "../_base_/models/cluster_detector_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/cluster_digits.py",
    "../_base_/default_runtime_det.py",
]

model = dict(
    backbone=dict(type="cluenet_mm.ClusterFormer", cluster_grids=(7, 7, 4)),
    bbox_head=dict(task="instances"),
)
