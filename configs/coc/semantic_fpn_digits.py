# Semantic FPN with a small CoC on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/semantic_fpn_digits.py",
    "../_base_/datasets/digits_semantic.py",
    "../_base_/schedules/semantic_fpn_digits.py",
    "../_base_/default_runtime_seg.py",
]

dims = [32, 64, 128, 192]
model = dict(
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        arch=dict(
            depths=(1, 2, 2, 1),
            embed_dims=dims,
            mlp_ratios=(4, 4, 4, 4),
            num_heads=(2, 2, 4, 4),
            head_dims=32,
            patch=(7, 4, 3),
        ),
        proposal_grids=2,
        # Regions of 8 x 8 points, the last map whole.
        fold_grids=(4, 2, 1, 1),
        # Blocks have their say from the start: the run is short.
        layer_scale_init=0.1,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=dims),
)
default_hooks = dict(checkpoint=dict(interval=1000))
