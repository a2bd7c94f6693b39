"""Check that fit releases of MMEngine and MMCV are installed, without importing them.

Each framework is published under several distribution names with one import name; any
of them will do. Releases of mmcv and of its fork onedl-mmcv have no numbers in common.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

__all__ = ["FRAMEWORKS", "check_frameworks", "framework_fault"]

FRAMEWORKS = {
    "mmengine": (
        "mmengine>=0.10.0,<1.0.0",
        "mmengine-lite>=0.10.0,<1.0.0",
        "onedl-mmengine>=0.10.0,<1.0.0",
    ),
    "mmcv": (
        "mmcv>=2.0.0rc4,<2.2.0",
        "mmcv-lite>=2.0.0rc4,<2.2.0",
        "onedl-mmcv>=2.3.0,<2.4.0",
    ),
}


def framework_fault(name: str, installed: Mapping[str, str]) -> str:
    """Say what is wrong with one framework.

    Args:
        name: A key of ``FRAMEWORKS``.
        installed: Version of each installed distribution, by its name.

    Returns:
        One sentence with the cure, or an empty string if a fit release is there.
    """
    first, *_ = texts = FRAMEWORKS[name]
    cure = f'`make env` sets up a fit environment, or: pip install "{first}"'
    needs = {text: Requirement(text) for text in texts}
    if not any(need.name in installed for need in needs.values()):
        names = " or ".join(need.name for need in needs.values())
        return f"{name} is not installed ({names}): {cure}"
    for text, need in needs.items():
        release = installed.get(need.name)
        if release and not need.specifier.contains(release, prereleases=True):
            return (
                f"{need.name} {release} is installed, but cluenet_mm needs {text}: "
                f"{cure}"
            )
    return ""


def check_frameworks() -> None:
    """Raise ImportError if MMEngine or MMCV is missing or of an unfit release."""
    for name, needs in FRAMEWORKS.items():
        if fault := framework_fault(name, _installed(needs)):
            raise ImportError(fault)


def _installed(needs: tuple[str, ...]) -> dict[str, str]:
    """Version of each of the distributions that is installed."""
    versions = {}
    for name in (Requirement(text).name for text in needs):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
