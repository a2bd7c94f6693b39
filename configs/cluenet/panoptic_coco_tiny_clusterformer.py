# Panoptic segmentation on COCO by CLUENet tiny and ClusterFormer's universal decoder,
# which takes any backbone. Start from a classifier as in mask_rcnn_coco_tiny.py.
_base_ = "../clusterformer/panoptic_coco_tiny.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="cluenet_mm.CLUENet",
        arch="tiny",
        cluster_grids=7,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[32, 64, 196, 320]),
)
