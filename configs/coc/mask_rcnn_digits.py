# Mask R-CNN with a small CoC on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/mask_rcnn_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/mask_rcnn_digits.py",
    "../_base_/default_runtime_det.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        cluster_grids=2,
        # Regions of 8 x 8 points, the last map whole.
        fold_grids=(4, 2, 1),
        # Blocks have their say from the start: the run is short.
        layer_scale_init=0.1,
    ),
)
