# ClusterFormer tiny on ImageNet-1K for 300 epochs, in a recipe of ours.
_base_ = [
    "../_base_/models/clusterformer_cls.py",
    "../_base_/schedules/imagenet_300e.py",
    "../_base_/default_runtime_cls.py",
]

model = _base_.imagenet_model
