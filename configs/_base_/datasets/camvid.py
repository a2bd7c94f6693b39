# CamVid in data/camvid (docs/datasets.md): 367 train and 101 val street scenes of
# 480 x 360 pixels, 11 classes. Label 11 is "unlabeled", which takes no part anywhere.
_base_ = "segmentation_folder.py"

ignore_index = 11

data = dict(
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
_base_.train_dataloader.dataset.pipeline[3].ignore_index = ignore_index  # RandomCrop
train_dataloader = dict(dataset=data)
val_dataloader = dict(dataset=data)
val_evaluator = [
    dict(type="IoUMetric", iou_metrics=["mIoU"], ignore_index=ignore_index),
    dict(type="cluenet_mm.BoundaryFScore", ignore_index=ignore_index),
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator
