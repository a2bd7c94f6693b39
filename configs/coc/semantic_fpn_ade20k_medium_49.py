# Semantic FPN with CoC medium on ADE20K, 7 x 7 centers a region.
# The paper, from pretrained weights: 40.8 mIoU.
_base_ = "semantic_fpn_ade20k_medium_4.py"

model = dict(backbone=dict(cluster_grids=7))
