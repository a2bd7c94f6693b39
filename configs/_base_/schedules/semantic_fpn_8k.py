# 8,000 iterations from scratch, for datasets of a few hundred images.
_base_ = "semantic_fpn_80k.py"

# 16 images a step: 16 x 1 device -> 4e-4, higher than with pretrained weights.
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=0.05), clip_grad=dict(max_norm=5.0)
)
train_cfg = dict(max_iters=8000, val_interval=1000)
