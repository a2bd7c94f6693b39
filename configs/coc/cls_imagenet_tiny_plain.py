# Context Cluster tiny without regions on ImageNet-1K (the paper: 73.8 top-1).
_base_ = "cls_imagenet_tiny.py"

model = dict(backbone=dict(arch="tiny_plain", fold_grids=1))
