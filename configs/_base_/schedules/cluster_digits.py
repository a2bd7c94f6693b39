# 24 epochs of cosine for the universal decoder from scratch, minutes on a CPU.
# 8 images a step: 8 x 1 device -> 1e-3.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(base_batch_size=8)

epochs = 24
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, end=100),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-5,
        by_epoch=True,
        T_max=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=8)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
