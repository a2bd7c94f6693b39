# native_digits_local.py with a loss that pulls the points of one class together.
_base_ = "native_digits_local.py"

model = dict(backbone=dict(nearest_cells=9), decode_head=dict(purity_weight=0.5))
