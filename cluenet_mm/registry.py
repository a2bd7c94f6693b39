"""Child registries of the ``cluenet_mm`` scope.

Each registry is a child of MMEngine's root of the same kind, so that
``type='cluenet_mm.CLUENet'`` is found from the scope of mmpretrain, mmdet or
mmseg: MMEngine imports ``cluenet_mm.registry`` on the first such name, and the
``locations`` below are imported when something is looked up in them. Nothing
else has to be imported by the user.

From then on MMEngine loads checkpoints with our allow-list: with PyTorch 2.6 or newer
MMEngine 0.10 cannot read its own, whoever's runner or script asks for them.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from .checkpoint import register_safe_loader

__all__ = [
    "DATASETS",
    "HOOKS",
    "METRICS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "PARAM_SCHEDULERS",
    "TRANSFORMS",
]

SCOPE = "cluenet_mm"

MODELS = Registry(
    "model",
    parent=MMENGINE_MODELS,
    scope=SCOPE,
    locations=["cluenet_mm.backbones", "cluenet_mm.decoders", "cluenet_mm.engine"],
)
DATASETS = Registry(
    "dataset", parent=MMENGINE_DATASETS, scope=SCOPE, locations=["cluenet_mm.datasets"]
)
TRANSFORMS = Registry(
    "transform",
    parent=MMENGINE_TRANSFORMS,
    scope=SCOPE,
    locations=["cluenet_mm.datasets"],
)
METRICS = Registry(
    "metric",
    parent=MMENGINE_METRICS,
    scope=SCOPE,
    locations=["cluenet_mm.evaluation"],
)
HOOKS = Registry(
    "hook", parent=MMENGINE_HOOKS, scope=SCOPE, locations=["cluenet_mm.engine"]
)
OPTIM_WRAPPERS = Registry(
    "optimizer wrapper",
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope=SCOPE,
    locations=["cluenet_mm.engine"],
)
PARAM_SCHEDULERS = Registry(
    "parameter scheduler",
    parent=MMENGINE_PARAM_SCHEDULERS,
    scope=SCOPE,
    locations=["cluenet_mm.training"],
)

register_safe_loader()
