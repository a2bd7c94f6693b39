# cls_cifar100.py with all images in memory, for short epochs on a CPU or one GPU.
_base_ = ["cls_cifar100.py", "../_base_/datasets/cifar100_memory.py"]

data_preprocessor = _base_.in_memory.data_preprocessor
train_dataloader = _base_.in_memory.train_dataloader
val_dataloader = _base_.in_memory.val_dataloader
test_dataloader = _base_.in_memory.test_dataloader
