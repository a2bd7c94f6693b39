# A small CLUENet on scikit-learn's handwritten digits: a minute on a CPU.
_base_ = [
    "../_base_/models/cluenet_cls.py",
    "../_base_/datasets/digits.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            depths=(1, 1, 2, 1),
            embed_dims=(32, 64, 128, 192),
            mlp_ratios=(4, 4, 4, 4),
            num_heads=(1, 2, 4, 4),
            head_dims=32,
            patch=(3, 2, 1),
            pool_norm=True,
        ),
        cluster_grids=(4, 4, 3, 2),
        drop_path_rate=0.05,
    ),
    head=dict(num_classes=10, in_channels=192),
)

# 64 images a step: 64 x 1 device -> 2e-3.
optim_wrapper = dict(
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
)
auto_scale_lr = dict(base_batch_size=64)

param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-2,
        by_epoch=True,
        end=2,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-5,
        by_epoch=True,
        begin=2,
        end=20,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=20))
