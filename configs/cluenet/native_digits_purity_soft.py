# native_digits_purity.py with logits from the 9 nearest cells, weighted by similarity.
_base_ = "native_digits_purity.py"

model = dict(decode_head=dict(upsample="soft"))
