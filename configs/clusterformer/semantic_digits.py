# Semantic segmentation by ClusterFormer's decoder on scenes of handwritten digits:
# minutes on a CPU.
_base_ = [
    "../_base_/models/cluster_segmentor_digits.py",
    "../_base_/datasets/digits_semantic.py",
    "../_base_/schedules/semantic_fpn_digits.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(backbone=dict(type="cluenet_mm.ClusterFormer", cluster_grids=(7, 7, 4)))
default_hooks = dict(checkpoint=dict(interval=1000))
