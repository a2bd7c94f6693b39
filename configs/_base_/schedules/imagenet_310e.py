# ImageNet-1K as Context Cluster and FEC were released, which is timm's training script:
# 5 epochs of warm-up from 1e-6, a cosine over 300 to 1e-6, 10 more at 1e-6, stepped by
# epoch; no clipping; images resized bilinearly or bicubically by chance, and to 248
# pixels in tests.
_base_ = "imagenet_300e.py"

optim_wrapper = dict(clip_grad=None)
param_scheduler = [
    dict(
        type="cluenet_mm.WarmupLR",
        warmup=5 / 310,
        start_lr=1e-6,
        min_lr=1e-6,
        cooldown=10 / 310,
    )
]
train_cfg = dict(max_epochs=310)

# Load, crop, flip, RandAugment, erase, pack; load, resize, crop, pack.
load, crop, flip, augment, *rest = _base_.train_pipeline
by_chance = dict(
    type="RandomChoice",
    transforms=[
        [
            dict(crop, interpolation=mode),
            flip,
            dict(augment, hparams=dict(augment.hparams, interpolation=mode)),
        ]
        for mode in ("bilinear", "bicubic")
    ],
)
train_pipeline = [load, by_chance, *rest]
test_pipeline = [*_base_.test_pipeline]
test_pipeline[1] = dict(test_pipeline[1], scale=248)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
del load, crop, flip, augment, rest, by_chance
