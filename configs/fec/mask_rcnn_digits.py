# Mask R-CNN with a small FEC on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/mask_rcnn_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/mask_rcnn_digits.py",
    "../_base_/default_runtime_det.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.FEC",
        cluster_grids=(7, 7, 4),
        fold_grids=(2, 2, 1),
        # Blocks have their say from the start: the run is short.
        layer_scale_init=0.1,
    ),
)
