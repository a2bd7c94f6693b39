# ClusterFormer's universal decoder for scenes of 128 pixels: a narrow pyramid, few
# centers and layers. Children add the type of the backbone, what is not common to all,
# and the task.
_base_ = "cluster_detector.py"

dims = [32, 64, 128]
width = 64
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[63.75] * 3),
    backbone=dict(
        arch=dict(
            depths=(1, 2, 2),
            embed_dims=dims,
            mlp_ratios=(4, 4, 4),
            num_heads=(1, 2, 4),
            patch=(7, 4, 3),
        ),
        out_indices=(0, 1, 2),
    ),
    neck=dict(in_channels=dims, out_channels=width, num_outs=3),
    bbox_head=dict(
        in_channels=width,
        num_things=10,
        sample_grid=(8, 8),
        decoder=dict(
            num_maps=3, embed_dims=width, num_layers=3, num_heads=4, hidden_dims=256
        ),
        criterion=dict(num_points=1024),
    ),
    test_cfg=dict(max_per_img=20),
)
