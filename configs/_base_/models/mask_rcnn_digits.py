# Mask R-CNN for scenes of 128 pixels: mmdet's, with a narrow pyramid, few RoIs and
# small anchors. Children add the type of the backbone, and what is not common to all.
_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

dims = [32, 64, 128]
strides = [4, 8, 16]
width = 64
model = dict(
    backbone=dict(
        _delete_=True,
        arch=dict(
            depths=(1, 2, 2),
            embed_dims=dims,
            mlp_ratios=(4, 4, 4),
            num_heads=(2, 2, 4),
            head_dims=32,
            patch=(7, 4, 3),
        ),
        out_indices=(0, 1, 2),
    ),
    data_preprocessor=dict(mean=[127.5] * 3, std=[63.75] * 3),
    neck=dict(in_channels=dims, out_channels=width, num_outs=3),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        # Sides of about 16, 32 and 64 pixels; digits are 15 to 50 pixels high.
        anchor_generator=dict(scales=[4], ratios=[0.75, 1.5], strides=strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, featmap_strides=strides),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=width, featmap_strides=strides),
        mask_head=dict(
            num_convs=2, in_channels=width, conv_out_channels=width, num_classes=10
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=50),
        rcnn=dict(max_per_img=20),
    ),
)
