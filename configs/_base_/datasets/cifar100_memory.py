# CIFAR-100 as arrays in memory, augmented a batch at a time on the device: the images,
# augmentation and normalization of mmpretrain's cifar100_bs16.py without a pipeline for
# every image. tools/dev/cifar100_npz.py writes the two files.
#
# A config takes the four from here in place of those of its recipe; see
# cluenet/cls_cifar100_memory.py.
def loader(split, shuffle):
    return dict(
        _delete_=True,
        batch_size=256,
        num_workers=0,  # there is nothing to do for another process
        dataset=dict(type="cluenet_mm.TensorImages", path=f"data/cifar100/{split}.npz"),
        sampler=dict(type="DefaultSampler", shuffle=shuffle),
        collate_fn=dict(type="torch.utils.data.default_convert"),
    )


in_memory = dict(
    data_preprocessor=dict(
        _delete_=True,
        type="cluenet_mm.TensorDataPreprocessor",
        num_classes=100,
        mean=[129.304, 124.070, 112.434],
        std=[68.170, 65.392, 70.418],
        crop_padding=4,
        flip_prob=0.5,
    ),
    train_dataloader=loader("train", shuffle=True),
    val_dataloader=loader("test", shuffle=False),
    test_dataloader=loader("test", shuffle=False),
)
