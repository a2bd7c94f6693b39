# A small Context Cluster on scikit-learn's handwritten digits: a minute on a CPU.
# Widths, depths and schedule are those of cluenet/cls_digits.py.
_base_ = [
    "../_base_/models/coc_cls.py",
    "../_base_/datasets/digits.py",
    "../_base_/schedules/digits_20e.py",
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
        ),
        fold_grids=(4, 4, 2, 1),
        drop_path_rate=0.05,
    ),
    head=dict(num_classes=10, in_channels=192),
)
default_hooks = dict(logger=dict(interval=20))
