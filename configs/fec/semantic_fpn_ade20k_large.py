# Semantic FPN with FEC large on ADE20K, 80,000 iterations.
_base_ = "semantic_fpn_ade20k_base.py"

model = dict(backbone=dict(arch="large"))
