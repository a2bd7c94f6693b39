# The 1x schedule in which Context Cluster was released: 12 epochs, steps at 8 and 11,
# 500 iterations of warm-up (mmdet's), with AdamW. Another length needs other steps.
_base_ = "mmdet::_base_/schedules/schedule_1x.py"

# 16 images a step: 2 x 8 devices -> 2e-4. Other sizes: --auto-scale-lr.
optim_wrapper = dict(
    _delete_=True,
    type="cluenet_mm.GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4),
)
