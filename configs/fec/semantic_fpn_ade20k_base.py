# Semantic FPN with FEC base on ADE20K, 80,000 iterations.
_base_ = "semantic_fpn_ade20k_small.py"

model = dict(backbone=dict(arch="base"), neck=dict(in_channels=[64, 128, 320, 512]))
