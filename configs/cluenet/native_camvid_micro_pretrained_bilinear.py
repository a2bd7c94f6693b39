# Control of native_camvid_micro_pretrained.py: the same classifiers, their logits
# interpolated by place.
_base_ = "native_camvid_micro_pretrained.py"

model = dict(
    backbone=dict(nearest_cells=1, pool_window=0),
    decode_head=dict(upsample="bilinear", purity_weight=0.0),
)
