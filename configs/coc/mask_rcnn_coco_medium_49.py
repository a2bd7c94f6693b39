# Mask R-CNN with CoC medium on COCO, 7 x 7 centers a region.
# The paper, from pretrained weights: 40.6 box AP, 37.6 mask AP.
_base_ = "mask_rcnn_coco_medium_4.py"

model = dict(backbone=dict(cluster_grids=7))
