# ClusterFormer's universal decoder as a detector of mmdet. Children add the backbone,
# which returns the maps of four stages with strides 4 to 32, neck.in_channels, and task
# and classes of the head.
width = 256
model = dict(
    type="cluenet_mm.ClusterDetector",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_mask=True,
        pad_seg=True,
        seg_pad_value=255,
    ),
    backbone=dict(out_indices=(0, 1, 2, 3)),
    neck=dict(type="FPN", out_channels=width, num_outs=4),
    bbox_head=dict(
        type="cluenet_mm.ClusterHead",
        in_channels=width,
        num_things=80,
        sample_grid=(10, 10),
        decoder=dict(num_maps=4, embed_dims=256, num_layers=6),
    ),
    test_cfg=dict(max_per_img=100),
)
