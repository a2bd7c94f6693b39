# FEC base on ImageNet-1K.
_base_ = "cls_imagenet_small.py"

model = dict(backbone=dict(arch="base", drop_path_rate=0.3), head=dict(in_channels=512))
