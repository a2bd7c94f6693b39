# native_digits_local.py with logits from all 9 cells, weighted by similarity: weights
# pass gradients, the arg-max does not.
_base_ = "native_digits_local.py"

model = dict(backbone=dict(nearest_cells=9), decode_head=dict(upsample="soft"))
