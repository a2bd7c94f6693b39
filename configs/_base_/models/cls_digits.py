# A classifier for the handwritten digits, of 32 pixels. Children add the type of the
# backbone, and what is not common to all.
_base_ = "classifier.py"

model = dict(
    backbone=dict(
        arch=dict(
            depths=(1, 1, 2, 1),
            embed_dims=(32, 64, 128, 192),
            mlp_ratios=(4, 4, 4, 4),
            num_heads=(1, 2, 4, 4),
            head_dims=32,
            patch=(3, 2, 1),
        ),
        drop_path_rate=0.05,
    ),
    head=dict(num_classes=10, in_channels=192),
)
