# 2,000 iterations for a segmenter from scratch, minutes on a CPU.
# 4 images a step: 4 x 1 device -> 1e-3.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(base_batch_size=4)

param_scheduler = [
    dict(
        type="cluenet_mm.WarmupLR",
        decay="poly",
        warmup=0.025,
        min_lr=1e-5,
        by_epoch=False,
    )
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
