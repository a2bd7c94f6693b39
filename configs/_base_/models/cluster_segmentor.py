# ClusterFormer's universal decoder as a segmentor of mmseg. Children add the backbone,
# which returns the maps of four stages with strides 4 to 32, neck.in_channels and the
# number of classes.
width = 256
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(out_indices=(0, 1, 2, 3)),
    neck=dict(type="FPN", out_channels=width, num_outs=4),
    decode_head=dict(
        type="cluenet_mm.ClusterSegHead",
        in_channels=width,
        decoder=dict(num_maps=4, embed_dims=256, num_layers=6),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
