# A small ClusterFormer on scikit-learn's handwritten digits: a minute on a CPU.
_base_ = [
    "../_base_/models/cls_digits.py",
    "../_base_/datasets/digits.py",
    "../_base_/schedules/digits_20e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(
        type="cluenet_mm.ClusterFormer",
        # The common arch, but for heads that together are as wide as the map.
        arch=dict(
            _delete_=True,
            depths=(1, 1, 2, 1),
            embed_dims=(32, 64, 128, 192),
            mlp_ratios=(4, 4, 4, 4),
            num_heads=(1, 2, 4, 6),
            patch=(3, 2, 1),
        ),
        cluster_grids=(4, 4, 3, 2),
    ),
)
default_hooks = dict(logger=dict(interval=20))
