# Context Cluster tiny on ImageNet-1K in the release's recipe, 300 epochs and 10 of
# cooldown (the paper: 73.2 top-1).
_base_ = [
    "../_base_/models/coc_cls.py",
    "../_base_/schedules/imagenet_310e.py",
    "../_base_/default_runtime_cls.py",
]

model = _base_.imagenet_model
