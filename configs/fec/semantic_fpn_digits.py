# Semantic FPN with a small FEC on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/semantic_fpn_digits.py",
    "../_base_/datasets/digits_semantic.py",
    "../_base_/schedules/semantic_fpn_digits.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.FEC",
        cluster_grids=(7, 7, 4, 2),
        fold_grids=(2, 2, 1, 1),
        # Blocks have their say from the start: the run is short.
        layer_scale_init=0.1,
    ),
)
default_hooks = dict(checkpoint=dict(interval=1000))
