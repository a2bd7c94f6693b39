# 24 epochs of cosine for the universal decoder from scratch, minutes on a CPU; else as
# the detectors are trained. 8 images a step: 8 x 1 device -> 1e-3.
_base_ = "mask_rcnn_digits.py"

train_cfg = dict(max_epochs=24, val_interval=8)
