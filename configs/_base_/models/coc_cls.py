# Context Cluster tiny as a classifier; children set variant, classes and width.
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        arch="tiny",
        proposal_grids=2,
        fold_grids=(8, 4, 2, 1),
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
