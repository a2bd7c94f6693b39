# FEC small on ImageNet-1K in the release's recipe, 300 epochs and 10 of cooldown.
_base_ = [
    "../_base_/models/fec_cls.py",
    "../_base_/schedules/imagenet_310e.py",
    "../_base_/default_runtime_cls.py",
]

model = _base_.imagenet_model

# 1024 images a step: 256 x 4 devices -> 1e-3. Other sizes: --auto-scale-lr.
train_dataloader = dict(batch_size=256)
