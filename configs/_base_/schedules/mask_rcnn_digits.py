# 10 epochs, one of them warm-up, for a detector from scratch, minutes on a CPU.
# 8 images a step: 8 x 1 device -> 1e-3.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(base_batch_size=8)

param_scheduler = [
    dict(type="cluenet_mm.WarmupLR", warmup=0.1, min_lr=1e-5, by_epoch=False)
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=10, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
