# 160,000 iterations for the universal decoder, as mmseg trains Mask2Former, after a
# warm-up of 1,500; else as cluster_50e.py.
_base_ = "cluster_50e.py"

param_scheduler = [
    dict(
        type="cluenet_mm.WarmupLR", decay="poly", warmup=1500 / 160_000, by_epoch=False
    )
]
train_cfg = dict(
    _delete_=True, type="IterBasedTrainLoop", max_iters=160_000, val_interval=8000
)
