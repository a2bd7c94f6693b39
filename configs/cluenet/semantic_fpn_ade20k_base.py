# Semantic FPN with CLUENet base on ADE20K, 80,000 iterations.
_base_ = "semantic_fpn_ade20k_small.py"

model = dict(backbone=dict(arch="base"))
