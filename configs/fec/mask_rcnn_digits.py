# Mask R-CNN with a small FEC on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/mask_rcnn_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/mask_rcnn_digits.py",
    "../_base_/default_runtime_det.py",
]

dims = [32, 64, 128]
model = dict(
    backbone=dict(
        type="cluenet_mm.FEC",
        arch=dict(
            depths=(1, 2, 2),
            embed_dims=dims,
            mlp_ratios=(4, 4, 4),
            num_heads=(2, 2, 4),
            head_dims=32,
            patch=(7, 4, 3),
        ),
        proposal_grids=(7, 7, 4),
        fold_grids=(2, 2, 1),
        # Blocks have their say from the start: the run is short.
        layer_scale_init=0.1,
        out_indices=(0, 1, 2),
    ),
    neck=dict(in_channels=dims),
)
