# Semantic FPN with CoC medium on ADE20K, 2 x 2 centers a region.
_base_ = "semantic_fpn_ade20k_small_4.py"

model = dict(backbone=dict(arch="medium"))
