# Mask R-CNN with CoC small on COCO, 7 x 7 centers a region.
# The paper, from pretrained weights: 37.2 box AP, 34.9 mask AP.
_base_ = "mask_rcnn_coco_small_4.py"

model = dict(backbone=dict(cluster_grids=7))
