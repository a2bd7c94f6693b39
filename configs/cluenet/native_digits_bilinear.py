# Control of native_digits.py: the same classifiers, their logits interpolated by place.
_base_ = "native_digits.py"

model = dict(decode_head=dict(upsample="bilinear"))
