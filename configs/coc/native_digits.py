# Native segmentation with a small CoC on scenes of digits: masks are clusters.
# Backbone, schedule and data are those of semantic_fpn_digits.py.
_base_ = "semantic_fpn_digits.py"

model = dict(
    backbone=dict(nearest_cells=1),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="cluenet_mm.NativeSegHead",
        in_channels=_base_.dims,
        num_classes=11,
    ),
)
