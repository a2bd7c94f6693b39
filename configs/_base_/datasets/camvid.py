# CamVid in data/camvid (docs/data.md): 367 train and 101 val street scenes of 480 x 360
# pixels, 11 classes. Label 11 is "unlabelled", which takes no part anywhere.
ignore_index = 11

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomResize", scale=(480, 360), ratio_range=(0.75, 2.0), keep_ratio=True
    ),
    dict(
        type="RandomCrop",
        crop_size=(320, 320),
        cat_max_ratio=0.75,
        ignore_index=ignore_index,
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeToMultiple", size_divisor=32),
    # Labels are loaded last, since predictions are scaled back to them.
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

camvid = dict(
    type="BaseSegDataset",
    data_root="data/camvid",
    ignore_index=ignore_index,
    metainfo=dict(
        classes=(
            "sky",
            "building",
            "pole",
            "road",
            "pavement",
            "tree",
            "sign",
            "fence",
            "car",
            "pedestrian",
            "bicyclist",
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    ),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(
        data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
        pipeline=train_pipeline,
        **camvid,
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
        **camvid,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"], ignore_index=ignore_index)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
