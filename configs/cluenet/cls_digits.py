# A small CLUENet on scikit-learn's handwritten digits: a minute on a CPU.
_base_ = [
    "../_base_/models/cls_digits.py",
    "../_base_/datasets/digits.py",
    "../_base_/schedules/digits_20e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.CLUENet",
        arch=dict(pool_norm=True),
        cluster_grids=(4, 4, 3, 2),
    ),
)
default_hooks = dict(logger=dict(interval=20))
