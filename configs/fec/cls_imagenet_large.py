# FEC large on ImageNet-1K.
_base_ = "cls_imagenet_base.py"

model = dict(backbone=dict(arch="large"))
