# Mini-ImageNet, 100 classes, 48,000 train and 12,000 val images (docs/datasets.md).
# Augmentation and channel statistics (ImageNet's) of CLUENet's release.
data_preprocessor = dict(
    num_classes=100,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    # torchvision's, since mmcv 2.1 cannot shift a hue with NumPy 2.
    dict(type="NumpyToPIL", to_rgb=True),
    dict(
        type="torchvision/ColorJitter",
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.05,
    ),
    dict(type="PILToNumpy", to_bgr=True),
    dict(
        type="RandomErasing",
        erase_prob=0.1,
        min_area_ratio=0.02,
        max_area_ratio=0.2,
        aspect_range=(0.3, 3.3),
        mode="const",
        # Black: the release erases before it normalizes.
        fill_color=[0, 0, 0],
    ),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="ResizeEdge",
        scale=256,
        edge="short",
        backend="pillow",
        interpolation="lanczos",
    ),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(
        type="cluenet_mm.MiniImageNet",
        data_root="data/mini_imagenet",
        split="train",
        pipeline=train_pipeline,
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(
        type="cluenet_mm.MiniImageNet",
        data_root="data/mini_imagenet",
        split="val",
        pipeline=test_pipeline,
        test_mode=True,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 3))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
