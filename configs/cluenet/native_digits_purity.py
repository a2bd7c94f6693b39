# native_digits.py with a loss that pulls the points of one class into common cells.
_base_ = "native_digits.py"

model = dict(backbone=dict(nearest_cells=9), decode_head=dict(purity_weight=0.5))
