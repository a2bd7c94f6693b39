# The schedule in which Context Cluster and FEC were released: 80,000 iterations,
# AdamW, polynomial decay to zero.
# 16 images a step: 4 x 4 devices -> 1e-4. Other sizes: --auto-scale-lr.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
)
auto_scale_lr = dict(base_batch_size=16)

param_scheduler = [dict(type="cluenet_mm.WarmupLR", decay="poly", by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=80_000, val_interval=8000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
