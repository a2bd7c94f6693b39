# mask_rcnn_digits_micro.py from the published weights of CIFAR-100.
_base_ = "mask_rcnn_digits_micro.py"

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="cluenet_mm://cluenet_micro_cifar100",
            prefix="backbone.",
        )
    )
)
