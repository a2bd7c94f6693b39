# CLUENet tiny, of the size for ImageNet, on photographs of your own, from scratch: for
# thousands of photographs of 128 pixels or more, and a GPU.
_base_ = "cls_folder.py"

image_size = 224
model = dict(
    backbone=dict(arch="tiny", cluster_grids=7, init_cfg=None),
    head=dict(in_channels=320),
)
