# native_digits.py with logits from the 9 nearest cells, weighted by similarity: the
# weights pass gradients, the arg-max does not.
_base_ = "native_digits.py"

model = dict(backbone=dict(nearest_cells=9), decode_head=dict(upsample="soft"))
