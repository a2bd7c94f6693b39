# Semantic FPN with CoC small on ADE20K, 7 x 7 centers a region.
_base_ = "semantic_fpn_ade20k_small_4.py"

model = dict(backbone=dict(cluster_grids=7))
