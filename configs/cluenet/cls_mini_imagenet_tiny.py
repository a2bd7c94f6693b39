# CLUENet tiny on Mini-ImageNet, from scratch (the paper: 80.51 top-1).
_base_ = [
    "../_base_/models/cluenet_cls.py",
    "../_base_/datasets/mini_imagenet.py",
    "../_base_/schedules/adamw_105e.py",
    "../_base_/default_runtime_cls.py",
]

# 128 images a step: 128 x 1 device -> 2e-3 (the release's rate), in mixed precision.
optim_wrapper = dict(
    type="cluenet_mm.GuardedAmpOptimWrapper",
    loss_scale="dynamic",
    optimizer=dict(lr=2e-3),
)
auto_scale_lr = dict(base_batch_size=128)
