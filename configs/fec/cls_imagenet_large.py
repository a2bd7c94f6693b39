# FEC large on ImageNet-1K for 300 epochs.
_base_ = "cls_imagenet_base.py"

model = dict(backbone=dict(arch="large"))
