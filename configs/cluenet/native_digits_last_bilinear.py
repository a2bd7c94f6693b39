# Control of native_digits_last.py: the logits of the last stage interpolated by place.
_base_ = "native_digits_bilinear.py"

model = dict(backbone=dict(out_indices=(3,)), decode_head=dict(in_channels=[192]))
