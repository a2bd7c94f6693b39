# CIFAR-100 as arrays in memory, augmented a batch at a time on the device: the images,
# augmentation and normalisation of mmpretrain's cifar100_bs16.py, without a pipeline
# for each image. tools/reproduce/cifar100.py writes the two files.
data_preprocessor = dict(
    type="cluenet_mm.TensorDataPreprocessor",
    num_classes=100,
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    crop_padding=4,
    flip_prob=0.5,
)

# The loader has nothing to do that a process of its own would be worth.
train_dataloader = dict(
    batch_size=256,
    num_workers=0,
    dataset=dict(type="cluenet_mm.TensorImages", path="data/cifar100/train.npz"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="torch.utils.data.default_convert"),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    dataset=dict(type="cluenet_mm.TensorImages", path="data/cifar100/test.npz"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="torch.utils.data.default_convert"),
)
val_evaluator = dict(type="Accuracy", topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
