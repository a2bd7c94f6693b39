# 50 epochs for the universal decoder, as decoders of queries are trained: AdamW, small
# gradients, one step at 40. The paper does not give its schedule.
# 16 images a step: 2 x 8 devices -> 1e-4. Other sizes: --auto-scale-lr.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    # Learned centres and scalars are no matrices to decay.
    paramwise_cfg=dict(
        custom_keys=dict(
            learned=dict(decay_mult=0.0),
            levels=dict(decay_mult=0.0),
            attn_alpha=dict(decay_mult=0.0),
            sim_alpha=dict(decay_mult=0.0),
            sim_beta=dict(decay_mult=0.0),
        ),
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.1),
)
auto_scale_lr = dict(base_batch_size=16)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, end=500),
    dict(type="MultiStepLR", milestones=[40], gamma=0.1, end=50),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
