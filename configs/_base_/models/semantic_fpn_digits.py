# Semantic FPN for scenes of 128 pixels: mmseg's, with a narrow pyramid. Children add
# the backbone and neck.in_channels.
_base_ = "mmseg::_base_/models/fpn_r50.py"

width = 64
model = dict(
    pretrained=None,
    backbone=dict(_delete_=True),
    data_preprocessor=dict(
        mean=[127.5] * 3,
        std=[63.75] * 3,
        size=(128, 128),
        test_cfg=dict(size_divisor=32),
    ),
    neck=dict(out_channels=width),
    decode_head=dict(in_channels=[width] * 4, channels=width, num_classes=11),
)
