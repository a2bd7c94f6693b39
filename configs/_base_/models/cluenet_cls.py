# CLUENet tiny as a classifier; children set the variant, the classes and the width.
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch="tiny",
        cluster_grids=7,
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
