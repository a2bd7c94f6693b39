# CLUENet small on Mini-ImageNet, from scratch (the paper: 81.49 top-1).
_base_ = "cls_mini_imagenet_tiny.py"

model = dict(
    backbone=dict(arch="small", drop_path_rate=0.3), head=dict(in_channels=512)
)
