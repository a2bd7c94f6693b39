# Native segmentation with FEC small on ADE20K: masks are clusters. Backbone, schedule
# and data are those of semantic_fpn_ade20k_small.py.
_base_ = "semantic_fpn_ade20k_small.py"

model = dict(
    backbone=dict(nearest_cells=1),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="cluenet_mm.NativeSegHead",
        in_channels=[32, 64, 196, 320],
        num_classes=150,
    ),
)
