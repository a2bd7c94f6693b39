# Mask R-CNN with a small CLUENet on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/mask_rcnn_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/mask_rcnn_digits.py",
    "../_base_/default_runtime_det.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch=dict(pool_norm=True),
        cluster_grids=(7, 7, 4),
    ),
)
