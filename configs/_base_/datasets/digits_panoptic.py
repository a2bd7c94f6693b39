# Scenes of handwritten digits, every pixel in a segment, made on first use in seconds.
data_root = "data/digits_scenes"

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(
        type="cluenet_mm.DigitsPanoptic",
        split="train",
        data_root=data_root,
        # Digits have a handedness: no flips.
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="cluenet_mm.LoadPanoptic"),
            dict(type="PackDetInputs"),
        ],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(
        type="cluenet_mm.DigitsPanoptic",
        split="val",
        data_root=data_root,
        pipeline=[
            dict(type="LoadImageFromFile"),
            # A resize that changes nothing, since mmdet scales predictions back.
            dict(type="Resize", scale=(128, 128), keep_ratio=True),
            dict(type="cluenet_mm.LoadPanoptic"),
            dict(
                type="PackDetInputs",
                meta_keys=(
                    "img_id",
                    "img_path",
                    "ori_shape",
                    "img_shape",
                    "scale_factor",
                ),
            ),
        ],
        test_mode=True,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(
    type="cluenet_mm.PanopticQuality",
    ann_file=f"{data_root}/annotations/panoptic_val.json",
    seg_prefix=f"{data_root}/panoptic/val",
)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
