# CLUENet base on ImageNet-1K for 300 epochs.
_base_ = "cls_imagenet_small.py"

model = dict(backbone=dict(arch="base"))
