# What every segmentation run shares; runs are counted in iterations.
_base_ = "mmseg::_base_/default_runtime.py"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Three are kept, since MMEngine removes the oldest before it writes the newest: a
    # crash while writing leaves two whole ones.
    checkpoint=dict(
        type="CheckpointHook",
        by_epoch=False,
        interval=4000,
        max_keep_ckpts=3,
        save_best="mIoU",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
# Every run has a seed, so that a resumed one equals an uninterrupted one.
randomness = dict(seed=0, deterministic=False)
custom_hooks = [dict(type="cluenet_mm.EpochSeedHook")]
