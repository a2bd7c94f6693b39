# For some hundred to some ten thousand photographs: a tenth of the run is warm-up, then
# a cosine, stepped by iteration. The learning rate is the family's.
max_epochs = 30

optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", weight_decay=0.05),
)
param_scheduler = [
    dict(type="cluenet_mm.WarmupLR", warmup=0.1, min_lr=1e-5, by_epoch=False)
]
train_cfg = dict(by_epoch=True, max_epochs="$max_epochs", val_interval=1)
val_cfg = dict()
test_cfg = dict()
