# What every classification run shares.
_base_ = "mmpretrain::_base_/default_runtime.py"

default_hooks = dict(
    # Three are kept, since MMEngine removes the oldest before it writes the newest: a
    # crash while writing leaves two whole ones.
    checkpoint=dict(
        type="CheckpointHook", interval=1, max_keep_ckpts=3, save_best="auto"
    ),
    logger=dict(type="LoggerHook", interval=50),
)
# Every run has a seed, so that a resumed one equals an uninterrupted one.
randomness = dict(seed=0, deterministic=False)
custom_hooks = [dict(type="cluenet_mm.EpochSeedHook")]
