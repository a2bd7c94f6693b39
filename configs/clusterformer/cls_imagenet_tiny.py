# ClusterFormer tiny on ImageNet-1K for 300 epochs.
_base_ = [
    "../_base_/models/clusterformer_cls.py",
    "../_base_/schedules/imagenet_300e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    head=dict(
        num_classes=1000,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
    train_cfg=dict(
        augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]
    ),
)
