# Context Cluster tiny as a classifier; children set variant, classes and width.
_base_ = "classifier.py"

model = dict(
    backbone=dict(
        type="cluenet_mm.ContextCluster",
        arch="tiny",
        cluster_grids=2,
        fold_grids=(8, 4, 2, 1),
        drop_path_rate=0.1,
    ),
    head=dict(num_classes=100, in_channels=320),
)
