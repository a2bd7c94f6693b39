# native_digits_local_purity.py with a classifier of the last stage alone: 16 cells.
_base_ = "native_digits_local_purity.py"

model = dict(
    backbone=dict(out_indices=(3,)),
    decode_head=dict(in_channels=[192]),
)
