# native_digits.py where a point joins one of the 3 x 3 cells around it.
_base_ = "native_digits.py"

model = dict(backbone=dict(pool_window=3))
