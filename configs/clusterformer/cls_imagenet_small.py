# ClusterFormer small on ImageNet-1K for 300 epochs.
_base_ = "cls_imagenet_tiny.py"

model = dict(backbone=dict(arch="small", drop_path_rate=0.3))
