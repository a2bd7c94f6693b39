# 20 epochs on the handwritten digits, 2 of them warm-up.
# 64 images a step: 64 x 1 device -> 2e-3.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
)
auto_scale_lr = dict(base_batch_size=64)

param_scheduler = [
    dict(type="cluenet_mm.WarmupLR", warmup=0.1, min_lr=1e-5, by_epoch=False)
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()
