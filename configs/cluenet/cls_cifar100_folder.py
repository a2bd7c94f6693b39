# CLUENet on CIFAR-100 as an image folder, train/<class>/ and test/<class>/; the recipe
# is that of cls_cifar100.py.
_base_ = [
    "../_base_/models/cluenet_cls.py",
    "../_base_/datasets/cifar100_folder.py",
    "../_base_/schedules/adamw_105e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(arch="micro_cifar", cluster_grids=4),
    head=dict(in_channels=256),
)

# 256 images a step: 256 x 1 device -> 1.5e-2 (the release's rate).
optim_wrapper = dict(optimizer=dict(lr=1.5e-2))
auto_scale_lr = dict(base_batch_size=256)
