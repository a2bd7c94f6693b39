# mmseg's Semantic FPN. Children add the backbone, which returns the maps of four stages
# with strides 4 to 32, and neck.in_channels. Its batch norms are synchronized in
# distributed runs on GPUs and ordinary elsewhere: the runner sees to that.
_base_ = "mmseg::_base_/models/fpn_r50.py"

model = dict(pretrained=None, backbone=dict(_delete_=True, out_indices=(0, 1, 2, 3)))
