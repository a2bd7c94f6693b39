# Images and label maps of your own in data/segmentation (docs/data.md): classes count
# from 0, and label 255 takes no part, as everywhere in mmseg.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeToMultiple", size_divisor=32),
    # Labels are loaded last, since predictions are scaled back to them.
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

data = dict(
    type="BaseSegDataset",
    data_root="data/segmentation",
    metainfo=dict(classes=("background", "object")),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(
                type="RandomResize",
                scale=(480, 360),
                ratio_range=(0.75, 2.0),
                keep_ratio=True,
            ),
            dict(type="RandomCrop", crop_size=(320, 320), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
        ],
        **data,
    ),
    sampler=dict(type="InfiniteSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        data_prefix=dict(img_path="images/val", seg_map_path="annotations/val"),
        pipeline=test_pipeline,
        test_mode=True,
        **data,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
