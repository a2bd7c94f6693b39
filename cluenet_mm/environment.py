"""Check that fit releases of MMEngine and MMCV are installed, without importing them.

Each framework is published under several distribution names with one import name;
any of them will do, and this module is the only one that knows the names.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from packaging.version import Version

__all__ = ["FRAMEWORKS", "Framework", "check_frameworks", "framework_fault"]


class Framework(NamedTuple):
    """A framework, the releases that fit, and the names it is published under."""

    name: str
    minimum: str
    below: str
    distributions: tuple[str, ...]


FRAMEWORKS = (
    Framework(
        "mmengine", "0.10.0", "1.0.0", ("mmengine", "mmengine-lite", "onedl-mmengine")
    ),
    Framework("mmcv", "2.0.0rc4", "2.2.0", ("mmcv", "mmcv-lite", "onedl-mmcv")),
)


def framework_fault(framework: Framework, installed: Mapping[str, str]) -> str:
    """Say what is wrong with one framework.

    Args:
        framework: What is needed.
        installed: Version of each installed distribution, by its name.

    Returns:
        One sentence with the cure, or an empty string if a fit release is there.
    """
    name, minimum, below, distributions = framework
    cure = f'`make env` sets up a fit environment, or: pip install "{name}>={minimum},'
    cure += f'<{below}"'
    found = [d for d in distributions if d in installed]
    if not found:
        return f"{name} is not installed ({' or '.join(distributions)}): {cure}"
    unfit = [
        f"{d} {installed[d]}"
        for d in found
        if not Version(minimum) <= Version(installed[d]) < Version(below)
    ]
    if not unfit:
        return ""
    return (
        f"{' and '.join(unfit)} is installed, but cluenet_mm needs "
        f"{name}>={minimum},<{below}: {cure}"
    )


def check_frameworks() -> None:
    """Raise ImportError if MMEngine or MMCV is missing or of an unfit release."""
    for framework in FRAMEWORKS:
        fault = framework_fault(framework, _installed(framework.distributions))
        if fault:
            raise ImportError(fault)


def _installed(distributions: tuple[str, ...]) -> dict[str, str]:
    """Version of each of the distributions that is installed."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
