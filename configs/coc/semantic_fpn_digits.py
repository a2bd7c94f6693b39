# Semantic FPN with a small CoC on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/semantic_fpn_digits.py",
    "../_base_/datasets/digits_semantic.py",
    "../_base_/schedules/semantic_fpn_digits.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        cluster_grids=2,
        # Regions of 8 x 8 points, the last map whole.
        fold_grids=(4, 2, 1, 1),
        # Blocks have their say from the start: the run is short.
        layer_scale_init=0.1,
    ),
)
default_hooks = dict(checkpoint=dict(interval=1000))
