# Semantic FPN with CoC small on ADE20K, 5 x 5 centers a region.
_base_ = "semantic_fpn_ade20k_small_4.py"

model = dict(backbone=dict(cluster_grids=5))
