# Semantic FPN with a small CLUENet on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/semantic_fpn_digits.py",
    "../_base_/datasets/digits_semantic.py",
    "../_base_/schedules/semantic_fpn_digits.py",
    "../_base_/default_runtime_seg.py",
]

dims = [32, 64, 128, 192]
model = dict(
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch=dict(
            depths=(1, 2, 2, 1),
            embed_dims=dims,
            mlp_ratios=(4, 4, 4, 4),
            num_heads=(2, 2, 4, 4),
            head_dims=32,
            patch=(7, 4, 3),
            pool_norm=True,
        ),
        cluster_grids=(7, 7, 4, 2),
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=dims),
)
default_hooks = dict(checkpoint=dict(interval=1000))
