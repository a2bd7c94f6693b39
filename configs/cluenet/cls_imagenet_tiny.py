# CLUENet tiny on ImageNet-1K for 300 epochs, to pretrain dense models. The paper has
# no ImageNet result: the recipe is ours.
_base_ = [
    "../_base_/models/cluenet_cls.py",
    "../_base_/schedules/imagenet_300e.py",
    "../_base_/default_runtime_cls.py",
]

model = _base_.imagenet_model
