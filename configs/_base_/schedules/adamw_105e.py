# The schedule of CLUENet's from-scratch experiments, timm's: 5 epochs of linear warm-up
# from 1e-6, and a cosine over all 105 epochs to 1e-5, entered at epoch 5; stepped once
# an epoch. AdamW decays every parameter, norms and scalars included. The learning rate
# is the family's.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", weight_decay=0.05),
)

param_scheduler = [
    dict(type="cluenet_mm.WarmupLR", warmup=5 / 105, start_lr=1e-6, min_lr=1e-5)
]

train_cfg = dict(by_epoch=True, max_epochs=105, val_interval=1)
val_cfg = dict()
test_cfg = dict()
