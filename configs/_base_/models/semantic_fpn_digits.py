# Semantic FPN for scenes of 128 pixels: mmseg's, with a narrow pyramid. Children add
# the type of the backbone, and what is not common to all.
_base_ = "mmseg::_base_/models/fpn_r50.py"

dims = [32, 64, 128, 192]
width = 64
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        arch=dict(
            depths=(1, 2, 2, 1),
            embed_dims=dims,
            mlp_ratios=(4, 4, 4, 4),
            num_heads=(2, 2, 4, 4),
            head_dims=32,
            patch=(7, 4, 3),
        ),
        out_indices=(0, 1, 2, 3),
    ),
    data_preprocessor=dict(
        mean=[127.5] * 3,
        std=[63.75] * 3,
        size=(128, 128),
        test_cfg=dict(size_divisor=32),
    ),
    neck=dict(in_channels=dims, out_channels=width),
    decode_head=dict(in_channels=[width] * 4, channels=width, num_classes=11),
)
