# ADE20K in data/ade/ADEChallengeData2016 (docs/datasets.md): crops of 512 pixels, whole
# images in tests.
_base_ = "mmseg::_base_/datasets/ade20k.py"

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    # What the releases call AlignResize: both sides up to a multiple.
    dict(type="ResizeToMultiple", size_divisor=32),
    # Labels are loaded last, since predictions are scaled back to them.
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
