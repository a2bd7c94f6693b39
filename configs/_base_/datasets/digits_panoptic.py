# Scenes of handwritten digits, every pixel in a segment: images and order of transforms
# are those of digits_instances.py.
_base_ = "digits_instances.py"

# In place of LoadAnnotations.
_base_.train_dataloader.dataset.pipeline[1] = dict(type="cluenet_mm.LoadPanoptic")
_base_.val_dataloader.dataset.pipeline[2] = dict(type="cluenet_mm.LoadPanoptic")
_base_.train_dataloader.dataset.type = "cluenet_mm.DigitsPanoptic"
_base_.val_dataloader.dataset.type = "cluenet_mm.DigitsPanoptic"
test_dataloader = _base_.val_dataloader
val_evaluator = dict(
    _delete_=True,
    type="cluenet_mm.PanopticQuality",
    ann_file=f"{_base_.data_root}/annotations/panoptic_val.json",
    seg_prefix=f"{_base_.data_root}/panoptic/val",
)
test_evaluator = val_evaluator
