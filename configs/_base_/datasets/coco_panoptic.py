# Panoptic COCO in data/coco (docs/data.md), as mmdet reads it, without panopticapi.
_base_ = "mmdet::_base_/datasets/coco_panoptic.py"

load = dict(type="cluenet_mm.LoadPanoptic")
train_pipeline = [
    dict(type="LoadImageFromFile"),
    load,
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    load,
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
# Workers that live for one epoch: a resumed run draws what an uninterrupted one would.
train_dataloader = dict(persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type="cluenet_mm.PanopticQuality",
    ann_file="data/coco/annotations/panoptic_val2017.json",
    seg_prefix="data/coco/annotations/panoptic_val2017",
)
test_evaluator = val_evaluator
