# Mask R-CNN with CLUENet small on COCO: 36 epochs, short sides of 640 to 800 pixels.
_base_ = "mask_rcnn_coco_small.py"

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False),
    dict(type="RandomResize", scale=[(1333, 640), (1333, 800)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=36)
_base_.param_scheduler[1].update(end=36, milestones=[27, 33])
