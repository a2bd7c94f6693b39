# Native segmentation with CLUENet tiny on ADE20K: masks are clusters. Backbone,
# schedule and data are those of semantic_fpn_ade20k_tiny.py.
_base_ = "semantic_fpn_ade20k_tiny.py"

model = dict(
    # A point joins one of the 3 x 3 cells around it; a loss makes the cells pure.
    backbone=dict(nearest_cells=9, pool_window=3),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="cluenet_mm.NativeSegHead",
        upsample="soft",
        purity_weight=0.5,
        in_channels=[32, 64, 196, 320],
        num_classes=150,
    ),
)
