# ImageNet-1K for 300 epochs, data and schedule: the usual modern recipe (that of
# mmpretrain's Swin), without the parts of the model.
_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
]

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader

# 1024 images a step: 128 x 8 devices -> 1e-3. Other sizes: --auto-scale-lr.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    # The scalars of the clustering (temperature, scale, shift) are no weights to decay.
    paramwise_cfg=dict(
        custom_keys=dict(
            attn_alpha=dict(decay_mult=0.0),
            sim_alpha=dict(decay_mult=0.0),
            sim_beta=dict(decay_mult=0.0),
        )
    ),
    clip_grad=dict(max_norm=5.0),
)
