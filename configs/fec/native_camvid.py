# Native segmentation with FEC small on CamVid: masks are clusters. Backbone, schedule
# and data are those of semantic_fpn_camvid.py.
_base_ = "semantic_fpn_camvid.py"

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
        num_classes=11,
        ignore_index=_base_.ignore_index,
    ),
)
