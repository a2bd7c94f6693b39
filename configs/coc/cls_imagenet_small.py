# Context Cluster small on ImageNet-1K (the paper: 78.1 top-1).
_base_ = "cls_imagenet_tiny.py"

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.3), head=dict(in_channels=512)
)
