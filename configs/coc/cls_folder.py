# Context Cluster on photographs of your own, from scratch. Set data_root; image_size,
# num_classes and max_epochs have defaults (../_base_/datasets/image_folder.py,
# ../_base_/schedules/adamw_folder.py).
_base_ = [
    "../_base_/models/coc_cls.py",
    "../_base_/datasets/image_folder.py",
    "../_base_/schedules/adamw_folder.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(arch="mini_cifar"),
    head=dict(num_classes="$num_classes", in_channels=256),
)

# 32 images a step: 32 x 1 device -> 1e-3.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
