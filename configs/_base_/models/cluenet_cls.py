# CLUENet tiny as a classifier; children set the variant, the classes and the width.
_base_ = "classifier.py"

model = dict(
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch="tiny",
        cluster_grids=7,
        drop_path_rate=0.1,
    ),
    head=dict(num_classes=100, in_channels=320),
)
