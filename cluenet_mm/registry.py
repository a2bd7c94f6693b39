"""Child registries of the ``cluenet_mm`` scope.

Each registry is a child of MMEngine's root of the same kind, so that
``type='cluenet_mm.CLUENet'`` is found from the scope of mmpretrain, mmdet or
mmseg: MMEngine imports ``cluenet_mm.registry`` on the first such name, and a lookup
imports what the name needs. Nothing else has to be imported by the user.

From then on MMEngine loads checkpoints with our allow-list: with PyTorch 2.6 or newer
MMEngine 0.10 cannot read its own, whoever's runner or script asks for them.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module

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


class LazyRegistry(Registry):
    """A registry that imports what is slow only when its name is looked up.

    MMEngine's imports all of its ``locations`` for the first name: a backbone would
    wait for mmdet and mmseg.

    Args:
        name: Name of the registry.
        parent: MMEngine's registry of that kind.
        location: Module that is imported for the first name, whichever it is.
        modules: Names that each of the slow modules registers.
    """

    def __init__(
        self,
        name: str,
        parent: Registry,
        location: str,
        modules: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__(name, parent=parent, scope=SCOPE, locations=[location])
        self.modules = {n: module for module, names in modules.items() for n in names}

    def get(self, key: str) -> type | None:
        """Look up ``key``, which may begin with a scope; None if it is unknown."""
        name = key.removeprefix(f"{SCOPE}.")
        if name in self.modules:
            import_module(self.modules[name])
        return super().get(key)


MODELS = LazyRegistry(
    "model",
    MMENGINE_MODELS,
    "cluenet_mm.backbones",
    {
        "cluenet_mm.decoders": (
            "ClusterDetector",
            "ClusterHead",
            "ClusterSegHead",
            "NativeSegHead",
        ),
        "cluenet_mm.training": ("InstanceTTAModel",),
        "cluenet_mm.training.tensor_preprocessor": ("TensorDataPreprocessor",),
    },
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
HOOKS = LazyRegistry(
    "hook",
    MMENGINE_HOOKS,
    "cluenet_mm.hooks",
    {"cluenet_mm.interpret": ("ClusterVisualizationHook",)},
)
OPTIM_WRAPPERS = Registry(
    "optimizer wrapper",
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope=SCOPE,
    locations=["cluenet_mm.training"],
)
PARAM_SCHEDULERS = Registry(
    "parameter scheduler",
    parent=MMENGINE_PARAM_SCHEDULERS,
    scope=SCOPE,
    locations=["cluenet_mm.training"],
)

register_safe_loader()
