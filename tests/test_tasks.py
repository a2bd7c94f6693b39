"""The table of the three libraries says what they have."""

from importlib.util import find_spec

import pytest
from mmengine.config import Config
from mmengine.registry import (
    METRICS,
    MODELS,
    TRANSFORMS,
    VISUALIZERS,
    init_default_scope,
)

from cluenet_mm.tasks import TASKS, task_of


@pytest.mark.parametrize("library", TASKS)
def test_every_part_is_there(library):
    if not find_spec(library):
        pytest.skip(f"needs {library}")
    task = TASKS[library]
    assert task.library == library
    init_default_scope(library)
    for registry, names in (
        (VISUALIZERS, [task.visualizer]),
        (MODELS, [task.tta_model]),
        (METRICS, [task.prediction_writer]),
        (TRANSFORMS, [task.label_loader, task.packing]),
    ):
        with registry.switch_scope_and_registry(None) as here:
            for name in filter(None, names):
                assert here.get(name) is not None, name
    for part in ("inferencer", "check", "graph"):
        assert callable(task.load(part))


def test_the_task_is_the_default_scope():
    assert task_of(Config({"default_scope": "mmseg"})) is TASKS["mmseg"]
    for scope in (None, "mmpose"):
        message = f"default_scope is {scope!r}. Set it to 'mmpretrain' or 'mmdet'"
        with pytest.raises(ValueError, match=message):
            task_of(Config({"default_scope": scope}))
