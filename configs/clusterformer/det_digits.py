# Boxes by ClusterFormer's decoder on scenes of handwritten digits: minutes on a CPU.
_base_ = [
    "../_base_/models/cluster_detector_digits.py",
    "../_base_/datasets/digits_instances.py",
    "../_base_/schedules/cluster_digits.py",
    "../_base_/default_runtime_det.py",
]

model = dict(
    # Boxes need no map of stride 4: nothing is predicted for every pixel.
    backbone=dict(
        type="cluenet_mm.ClusterFormer", cluster_grids=(7, 7, 4), out_indices=(1, 2)
    ),
    neck=dict(in_channels=_base_.dims[1:], num_outs=2),
    bbox_head=dict(task="boxes", decoder=dict(num_maps=2)),
)
val_evaluator = dict(metric="bbox")
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP"))
