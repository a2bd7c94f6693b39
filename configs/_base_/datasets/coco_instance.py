# COCO in data/coco (docs/datasets.md), as mmdet reads it.
_base_ = "mmdet::_base_/datasets/coco_instance.py"

# Workers that live for one epoch: a resumed run draws what an uninterrupted one would.
train_dataloader = dict(persistent_workers=False)
