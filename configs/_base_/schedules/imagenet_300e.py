# ImageNet-1K for 300 epochs, data and schedule: the usual modern recipe (that of
# mmpretrain's Swin). CLUENet and ClusterFormer have no released one, so it is ours for
# them. 20 epochs of warm-up from 1e-6, a cosine to 1e-5, stepped by iteration.
_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
]

# For the children's models, since two bases must not define the same key.
imagenet_model = dict(
    head=dict(
        num_classes=1000,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    train_cfg=dict(
        augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]
    ),
)

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader

# 1024 images a step: 128 x 8 devices -> 1e-3. Other sizes: --auto-scale-lr.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    # The scalars of the clustering (temperature, scale, shift) do not decay.
    paramwise_cfg=dict(
        custom_keys=dict(
            attn_alpha=dict(decay_mult=0.0),
            sim_alpha=dict(decay_mult=0.0),
            sim_beta=dict(decay_mult=0.0),
        )
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="cluenet_mm.WarmupLR", warmup=20 / 300, min_lr=1e-5, by_epoch=False)
]
