# FEC small as a classifier; children set the variant, the classes and the width.
_base_ = "classifier.py"

model = dict(
    backbone=dict(
        type="cluenet_mm.FEC",
        arch="small",
        cluster_grids=(4, 4, 2, 2),
        fold_grids=1,
        drop_path_rate=0.1,
    ),
    head=dict(num_classes=100, in_channels=320),
)
