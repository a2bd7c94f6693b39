# Native segmentation with CLUENet tiny on CamVid: masks are clusters. Backbone,
# schedule and data are those of semantic_fpn_camvid.py.
_base_ = "semantic_fpn_camvid.py"

model = dict(
    backbone=dict(nearest_cells=1),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="cluenet_mm.NativeSegHead",
        in_channels=[32, 64, 196, 320],
        num_classes=11,
        ignore_index=_base_.ignore_index,
    ),
)
