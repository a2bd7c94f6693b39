# Photographs of your own: data_root/{train,val}/<class>/<image> (docs/data.md).
# "$image_size" is the value of image_size after inheritance and --cfg-options.
data_root = "data/images"
image_size = 64
num_classes = "auto"  # as many as data_root/train has folders

data_preprocessor = dict(
    num_classes="$num_classes",
    # CIFAR-100's, on which the published weights were trained.
    mean=[129.304, 124.070, 112.434],
    std=[68.170, 65.392, 70.418],
    to_rgb=True,
)

# Pillow, since it averages where it makes an image smaller.
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    dataset=dict(
        type="CustomDataset",
        data_root="$data_root",
        data_prefix="train",
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(
                type="RandomResizedCrop",
                scale="$image_size",
                crop_ratio_range=(0.25, 1.0),
                backend="pillow",
                interpolation="bicubic",
            ),
            dict(type="RandomFlip", prob=0.5, direction="horizontal"),
            dict(type="PackInputs"),
        ],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    dataset=dict(
        type="CustomDataset",
        data_root="$data_root",
        data_prefix="val",
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(
                type="ResizeEdge",
                scale="$image_size",
                edge="short",
                backend="pillow",
                interpolation="bicubic",
            ),
            dict(type="CenterCrop", crop_size="$image_size"),
            dict(type="PackInputs"),
        ],
        test_mode=True,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
