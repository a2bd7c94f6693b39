# native_digits_local_purity.py with logits from all 9 cells, weighted by similarity.
_base_ = "native_digits_local_purity.py"

model = dict(decode_head=dict(upsample="soft"))
