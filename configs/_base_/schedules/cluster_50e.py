# 50 epochs for the universal decoder, in most as mmdet trains Mask2Former: AdamW with a
# decay of 0.05, gradients clipped at 0.01, a tenth of the rate for the backbone, whose
# weights are to come from pretraining; one step at 40. From scratch, set its multiple
# to 1 (optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult).
# 16 images a step: 2 x 8 devices -> 1e-4. Other sizes: --auto-scale-lr.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            # Learned centers and the scalars of a backbone are not matrices to decay.
            attn_alpha=dict(lr_mult=0.1, decay_mult=0.0),
            assignment=dict(lr_mult=0.1, decay_mult=0.0),
            learned=dict(decay_mult=0.0),
            levels=dict(decay_mult=0.0),
        ),
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01),
)
auto_scale_lr = dict(base_batch_size=16)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, end=500),
    dict(type="MultiStepLR", milestones=[40], gamma=0.1, end=50),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
