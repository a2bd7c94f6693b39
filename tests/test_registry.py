"""A lookup finds everything, and imports little."""

import re
import subprocess
import sys
from pathlib import Path

import mmengine.registry
import pytest

from cluenet_mm import registry

ROOT = Path(__file__).parents[1]
HEAVY = ("mmdet", "mmpretrain", "mmseg", "matplotlib", "pycocotools", "sklearn")
LOOKUP = """
import sys
from mmengine.registry import {kind}
assert {kind}.get("cluenet_mm.{name}").__name__ == "{name}"
print([module for module in {heavy} if module in sys.modules])
"""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("MODELS", "CLUENet"),
        ("HOOKS", "EpochSeedHook"),
        ("OPTIM_WRAPPERS", "GuardedAmpOptimWrapper"),
    ],
)
def test_a_lookup_imports_no_other_library(kind, name):
    code = LOOKUP.format(kind=kind, name=name, heavy=HEAVY)
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize("kind", ["MODELS", "HOOKS"])
def test_every_class_is_found_by_its_name(kind):
    ours, root = getattr(registry, kind), getattr(mmengine.registry, kind)
    declaration = re.compile(rf"^@{kind}\.register_module\(\)\nclass (\w+)", re.M)
    sources = [path.read_text() for path in ROOT.glob("cluenet_mm/**/*.py")]
    declared = [name for text in sources for name in declaration.findall(text)]
    assert set(ours.modules) < set(declared)
    for name in declared:
        found = root.get(f"cluenet_mm.{name}")
        assert found.__module__.startswith(ours.modules.get(name, "cluenet_mm"))


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError, match=r"cluenet_mm\.CLUENett is not in the"):
        mmengine.registry.MODELS.build({"type": "cluenet_mm.CLUENett"})
