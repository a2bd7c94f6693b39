"""Arrows between the parts of the package point one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cluenet_mm"
# A part imports only what stands above it; those of one line do not import each other.
ORDER = (
    ("environment", "errors", "files", "memory", "ops", "package_data", "version"),
    ("data_errors", "guard", "weights"),
    ("layers", "checkpoint", "config", "tasks"),
    ("registry",),
    ("backbones", "datasets", "training"),
    ("building", "conversion", "decoders", "evaluation", "summary", "terminal"),
    ("inference",),
    ("deploy", "flops", "hooks", "interpret", "runner"),
    ("benchmark", "zoo"),
    ("__main__", "cli"),
)
LEVELS = {part: level for level, parts in enumerate(ORDER) for part in parts}
# Imported when their classes are looked up.
NEEDING_A_LIBRARY = {"tensor_preprocessor.py"}
# What some may not need: command lines, plots, the libraries of other tasks.
FORBIDDEN = {
    "ops": {"mmengine", "mmcv", "mmpretrain", "mmdet", "mmseg"},
    "layers": {"mmpretrain", "mmdet", "mmseg"},
    "backbones": {"mmpretrain", "mmdet", "mmseg", "matplotlib"},
    "hooks": {"argparse", "matplotlib"},
    "inference": {"argparse", "matplotlib"},
    "runner": {"argparse", "matplotlib"},
    "training": {"argparse", "matplotlib"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)


def parts_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imported(path))
    return {n[1] for n in names if n[0] == "cluenet_mm" and len(n) > 1} & LEVELS.keys()


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE / ".mim")
PARTS = sorted({part_of(path) for path in SOURCES} - {"__init__"})


def test_every_part_has_its_place():
    assert sorted(LEVELS) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_imports_point_one_way(part):
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in SOURCES
        if part_of(path) == part
        for other in parts_imported(path) - {part}
        if LEVELS[other] >= LEVELS[part]
    ]
    assert not wrong


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_parts_stay_light(part):
    found = {
        (str(path.relative_to(ROOT)), name.split(".")[0])
        for path in SOURCES
        if part_of(path) == part and path.name not in NEEDING_A_LIBRARY
        for name in imported(path)
    }
    assert not {pair for pair in found if pair[1] in FORBIDDEN[part]}


def test_nothing_imports_the_tools_and_only_they_the_command_lines():
    for path in SOURCES:
        assert not {n for n in imported(path) if n.split(".")[0] == "tools"}, path
        assert part_of(path) == "cli" or "cli" not in parts_imported(path), path
