# mmpretrain's ResNet-18 for CIFAR with the recipe of our networks, as a yardstick. The
# ResNet in CLUENet's paper (69.84 top-1) is another one, of 14.16 M parameters.
_base_ = [
    "mmpretrain::_base_/models/resnet18_cifar.py",
    "mmpretrain::_base_/datasets/cifar100_bs16.py",
    "../_base_/schedules/adamw_105e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(head=dict(num_classes=100))

train_dataloader = dict(batch_size=256)
val_dataloader = dict(batch_size=256)
test_dataloader = val_dataloader

# 256 images a step: 256 x 1 device -> 1e-2 (the rate of CLUENet's comparison).
optim_wrapper = dict(optimizer=dict(lr=1e-2))
auto_scale_lr = dict(base_batch_size=256)
