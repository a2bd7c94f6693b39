# CLUENet micro on Mini-ImageNet, from scratch (the paper: 78.75 top-1).
_base_ = "cls_mini_imagenet_tiny.py"

model = dict(backbone=dict(arch="micro"), head=dict(in_channels=256))
