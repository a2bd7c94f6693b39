# What every detection run shares.
_base_ = "mmdet::_base_/default_runtime.py"

default_hooks = dict(
    # Three are kept, since MMEngine removes the oldest before it writes the newest: a
    # crash while writing leaves two whole ones.
    checkpoint=dict(max_keep_ckpts=3, save_best="coco/segm_mAP"),
)
# Every run has a seed, so that a resumed one equals an uninterrupted one.
randomness = dict(seed=0, deterministic=False)
custom_hooks = [dict(type="cluenet_mm.EpochSeedHook")]
