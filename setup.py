"""Packaging: requirements come from ``requirements/``, data goes into ``.mim``.

OpenMMLab's tools look for a package's configs and scripts in ``<package>/.mim``. A
wheel gets copies there; an editable install gets links, so that edits show at once.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE_DATA = ("configs", "tools", "requirements", "model-index.yml")


def requirements(name: str) -> list[str]:
    """The requirements of one file, without comments."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def version() -> str:
    """The version, read without importing the package."""
    text = (ROOT / "cluenet_mm" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def read_me() -> str:
    """The long description; empty where the file is not shipped."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def link_package_data(folder: Path) -> None:
    """Make ``folder`` hold relative links to the data of this checkout."""
    folder.mkdir(exist_ok=True)
    for name in PACKAGE_DATA:
        link = folder / name
        if link.is_symlink():
            link.unlink()
        if (ROOT / name).exists() and not link.exists():
            link.symlink_to(os.path.relpath(ROOT / name, folder))


def copy_package_data(folder: Path) -> None:
    """Make ``folder`` hold copies of the data, less what only maintainers run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "dev")
    for name in PACKAGE_DATA:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skipped)
        elif source.is_file():
            shutil.copy2(source, folder / name)


class BuildWithPackageData(build_py):
    """``build_py`` that fills ``cluenet_mm/.mim``."""

    def run(self) -> None:
        """Build the modules, then link or copy the data."""
        super().run()
        if self.editable_mode:
            link_package_data(ROOT / "cluenet_mm" / ".mim")
        else:
            copy_package_data(Path(self.build_lib) / "cluenet_mm" / ".mim")


setup(
    name="cluenet_mm",
    version=version(),
    description="Vision models built on clustering (CLUENet, FEC, Context Cluster, "
    "ClusterFormer) as an extension of OpenMMLab",
    long_description=read_me(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["cluenet_mm", "cluenet_mm.*"]),
    include_package_data=True,
    python_requires=">=3.10,<3.13",
    install_requires=requirements("runtime"),
    extras_require={
        name: requirements(name) for name in ("mminstall", "tests", "optional")
    },
    entry_points={"console_scripts": ["cluenet_mm = cluenet_mm.__main__:main"]},
    cmdclass={"build_py": BuildWithPackageData},
    zip_safe=False,
)
