# Semantic FPN with CoC medium on ADE20K, 5 x 5 centers a region.
_base_ = "semantic_fpn_ade20k_medium_4.py"

model = dict(backbone=dict(cluster_grids=5))
