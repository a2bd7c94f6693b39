# ClusterFormer tiny as a classifier; children set variant, classes and width.
_base_ = "classifier.py"

model = dict(
    backbone=dict(
        type="cluenet_mm.ClusterFormer",
        arch="tiny",
        cluster_grids=7,
        drop_path_rate=0.1,
    ),
    head=dict(num_classes=100, in_channels=768),
)
