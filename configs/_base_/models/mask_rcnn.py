# mmdet's Mask R-CNN with FPN. Children add the backbone, which returns the maps of
# four stages with strides 4 to 32, and neck.in_channels.
_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

model = dict(backbone=dict(_delete_=True, out_indices=(0, 1, 2, 3)))
