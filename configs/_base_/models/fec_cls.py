# FEC small as a classifier; children set the variant, the classes and the width.
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="cluenet_mm.FEC",
        arch="small",
        proposal_grids=(4, 4, 2, 2),
        fold_grids=1,
        drop_path_rate=0.1,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=100,
        in_channels=320,
        loss=dict(type="CrossEntropyLoss"),
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02),
    ),
)
