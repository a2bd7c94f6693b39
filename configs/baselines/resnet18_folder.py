# mmpretrain's ResNet-18 on photographs of your own, from scratch, as a yardstick for
# cluenet/cls_folder.py: the same data, schedule and learning rate.
_base_ = [
    "mmpretrain::_base_/models/resnet18_cifar.py",
    "../_base_/datasets/image_folder.py",
    "../_base_/schedules/adamw_folder.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(head=dict(num_classes="$num_classes"))

# 32 images a step: 32 x 1 device -> 1e-3.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
