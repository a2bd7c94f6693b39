# The schedule of CLUENet's from-scratch experiments: 5 epochs of linear warm-up from
# 1e-6, then 100 epochs of cosine to 1e-5, both stepped once an epoch. AdamW decays
# every parameter, norms and scalars included. The learning rate is the family's.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", weight_decay=0.05),
)

param_scheduler = [
    # LinearLR reaches its end one step early, so 6 puts the full rate at epoch 5. The
    # start factor is 1e-6 over the family's rate.
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, end=6),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-5,
        by_epoch=True,
        begin=5,
        end=105,
        T_max=100,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=105, val_interval=1)
val_cfg = dict()
test_cfg = dict()
