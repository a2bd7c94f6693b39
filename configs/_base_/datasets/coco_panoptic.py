# Panoptic COCO in data/coco (docs/datasets.md), as mmdet reads it, without panopticapi,
# and with the large-scale jitter of its Mask2Former: images of 0.1 to 2 times 1024
# pixels, crops of 1024.
_base_ = "mmdet::_base_/datasets/coco_panoptic.py"

load = dict(type="cluenet_mm.LoadPanoptic")
train_pipeline = [
    dict(type="LoadImageFromFile"),
    load,
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomResize",
        scale=(1024, 1024),
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_size=(1024, 1024),
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # An image without things has stuff.
    dict(
        type="FilterAnnotations",
        min_gt_bbox_wh=(1e-5, 1e-5),
        by_mask=True,
        keep_empty=False,
    ),
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
