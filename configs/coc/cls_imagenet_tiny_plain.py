# Context Cluster tiny without regions on ImageNet-1K (the paper: 73.8 top-1): the
# weights of tiny, with other centers.
_base_ = "cls_imagenet_tiny.py"

model = dict(backbone=dict(cluster_grids=(4, 4, 2, 2), fold_grids=1))
