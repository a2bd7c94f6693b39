# Scenes of handwritten digits with label maps, made on first use in seconds.
data_root = "data/digits_scenes"

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        type="cluenet_mm.DigitsSemantic",
        split="train",
        data_root=data_root,
        # Digits have a handedness: no flips.
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
    sampler=dict(type="InfiniteSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(
        type="cluenet_mm.DigitsSemantic",
        split="val",
        data_root=data_root,
        pipeline=test_pipeline,
        test_mode=True,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = [
    dict(type="IoUMetric", iou_metrics=["mIoU"]),
    dict(type="cluenet_mm.BoundaryFScore"),
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator
