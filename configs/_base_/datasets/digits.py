# Handwritten digits that scikit-learn bundles: nothing to download.
data_preprocessor = dict(
    num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type="cluenet_mm.Digits",
        split="train",
        # Digits have a handedness: shifts, no flips.
        pipeline=[
            dict(type="RandomCrop", crop_size=32, padding=3),
            dict(type="PackInputs"),
        ],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(
        type="cluenet_mm.Digits",
        split="val",
        pipeline=[dict(type="PackInputs")],
        test_mode=True,
    ),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
