# A small FEC on scikit-learn's handwritten digits: a minute on a CPU.
_base_ = [
    "../_base_/models/cls_digits.py",
    "../_base_/datasets/digits.py",
    "../_base_/schedules/digits_20e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.FEC",
        cluster_grids=(4, 4, 2, 2),
        fold_grids=1,
    ),
)
default_hooks = dict(logger=dict(interval=20))
