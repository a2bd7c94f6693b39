# Context Cluster medium on ImageNet-1K (the paper: 81.2 top-1).
_base_ = "cls_imagenet_small.py"

model = dict(backbone=dict(arch="medium"))
