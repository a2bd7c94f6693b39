# CLUENet base on Mini-ImageNet, from scratch (the paper: 82.44 top-1).
_base_ = "cls_mini_imagenet_small.py"

model = dict(backbone=dict(arch="base"))
