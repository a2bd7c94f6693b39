"""Wheels and editable installs carry configs and tools, and the helpers find them."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import cluenet_mm
from cluenet_mm.environment import FRAMEWORKS, framework_fault
from cluenet_mm.package_data import config_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("cluenet_mm", "configs", "tools", "requirements")
CONFIG = "cluenet/cls_digits.py"


def run_python(code, cwd, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the sources, so that no build folder is left in the real ones."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", ".mim")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def installed(checkout, tmp_path_factory):
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(checkout)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def files_below(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in found}
    return {name for name in names if "__pycache__" not in name}


@pytest.mark.parametrize("kind", ["configs", "tools", "requirements"])
def test_wheel_holds_every_file(installed, checkout, kind):
    """All but what only maintainers run."""
    shipped = files_below(installed / "cluenet_mm" / ".mim" / kind)
    files = {name for name in files_below(checkout / kind) if name[:4] != "dev/"}
    assert shipped == files != set()


def test_wheel_holds_every_file_of_the_package(installed, checkout):
    shipped = files_below(installed / "cluenet_mm")
    shipped = {name for name in shipped if not name.startswith(".mim/")}
    assert shipped == files_below(checkout / "cluenet_mm")
    assert "interpret/page/view.js" in shipped


def test_wheel_metadata(installed):
    (info,) = installed.glob("*.dist-info")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert f"\nVersion: {cluenet_mm.__version__}\n" in metadata
    assert re.search(r"\nRequires-Dist: numpy.*<2\.4", metadata)
    extras = set(re.findall(r"\nProvides-Extra: (\w+)", metadata))
    assert extras == {"mminstall", "tests", "optional"}


def test_installed_copy_finds_its_config_and_tool(installed, tmp_path):
    code = (
        "from cluenet_mm import config_path, tool_path\n"
        f"print(config_path({CONFIG!r}), tool_path('doctor.py'), sep='\\n')"
    )
    result = run_python(code, tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    shipped = installed / "cluenet_mm" / ".mim"
    assert result.stdout.splitlines() == [
        str(shipped / "configs" / CONFIG),
        str(shipped / "tools" / "doctor.py"),
    ]


def test_installed_copy_has_commands(installed, tmp_path):
    (info,) = installed.glob("*.dist-info")
    script = (info / "entry_points.txt").read_text()
    assert "cluenet_mm = cluenet_mm.__main__:main" in script
    code = (
        "import runpy, sys; sys.argv[1:] = ['get_flops', 'cluenet/cls_digits']\n"
        "runpy.run_module('cluenet_mm', run_name='__main__')"
    )
    result = run_python(code, tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert "cluenet/cls_digits, 32x32 pixels" in result.stdout


def test_checkout_without_installation_finds_its_config(checkout, tmp_path):
    code = f"from cluenet_mm import config_path; print(config_path({CONFIG!r}))"
    result = run_python(code, tmp_path, PYTHONPATH=str(checkout))
    assert result.stdout.strip() == str(checkout / "configs" / CONFIG), result.stderr


def test_editable_build_links_the_data_and_can_be_repeated(checkout, tmp_path):
    code = (
        "from setuptools.build_meta import build_editable\n"
        f"build_editable({str(tmp_path)!r})"
    )
    links = checkout / "cluenet_mm" / ".mim"
    for _ in range(2):
        result = run_python(code, checkout)
        assert result.returncode == 0, result.stderr
        assert (links / "configs").readlink() == Path("../../configs")
        assert (links / "tools" / "doctor.py").samefile(checkout / "tools/doctor.py")


@pytest.mark.parametrize("name", [CONFIG, CONFIG.removesuffix(".py")])
def test_config_path(name):
    assert cluenet_mm.config_path(name) == ROOT / "configs" / CONFIG


def test_config_names_can_all_be_found():
    names = cluenet_mm.config_names()
    assert CONFIG in names
    assert all(cluenet_mm.config_path(name).is_file() for name in names)
    assert not any(name.startswith("_base_/") for name in names)


@pytest.mark.parametrize("name", ["cluenet/cls_digit", "cls_digits", "cls_digits.py"])
def test_unknown_config_names_the_close_ones(name):
    with pytest.raises(FileNotFoundError, match=re.escape(CONFIG)):
        cluenet_mm.config_path(name)


def test_an_unknown_config_gets_a_few_names_and_how_to_see_all():
    with pytest.raises(FileNotFoundError) as error:
        cluenet_mm.config_path("nonsense.py")
    message = str(error.value)
    assert "'nonsense.py'" in message
    assert 1 < message.count(".py") <= 6
    assert "_base_" not in message
    (command,) = re.findall(r"`(python .*)`", message)
    result = subprocess.run(
        [sys.executable, *command.split()[1:]],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert CONFIG in result.stdout.split()


def test_config_name_is_that_of_our_files_alone(tmp_path):
    assert config_name(ROOT / "configs" / CONFIG) == CONFIG
    link = tmp_path / "link.py"
    link.symlink_to(ROOT / "configs" / CONFIG)
    assert config_name(link) == CONFIG
    copy = tmp_path / "configs" / CONFIG
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "configs" / CONFIG, copy)
    assert config_name(copy) is None


@pytest.mark.parametrize("name", ["../setup", "/etc/passwd", ""])
def test_only_configs_are_found(name):
    with pytest.raises(FileNotFoundError, match="cannot find a config named"):
        cluenet_mm.config_path(name)


def test_import_is_light(tmp_path):
    code = (
        "import cluenet_mm, sys\n"
        "heavy = {'torch', 'numpy', 'mmcv', 'mmengine', 'cv2'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    result = run_python(code, tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr


def test_import_refuses_an_unfit_mmcv(tmp_path):
    info = tmp_path / "mmcv-2.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmcv\nVersion: 2.2.0")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = run_python("import cluenet_mm", tmp_path, PYTHONPATH=path)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: mmcv 2.2.0 is installed, but")
    assert "make env" in last


MMENGINE, MMCV = FRAMEWORKS


@pytest.mark.parametrize(
    ("framework", "installed"),
    [
        (MMCV, {"mmcv": "2.0.0rc4"}),
        (MMCV, {"mmcv-lite": "2.1.0"}),
        (MMCV, {"mmcv": "2.1.0.post1"}),
        (MMCV, {"onedl-mmcv": "2.3.6"}),
        (MMENGINE, {"mmengine": "0.10.7"}),
        (MMENGINE, {"mmengine-lite": "0.10.0"}),
        (MMENGINE, {"onedl-mmengine": "0.10.12"}),
    ],
)
def test_fit_frameworks(framework, installed):
    assert framework_fault(framework, installed) == ""


@pytest.mark.parametrize(
    ("framework", "installed", "named"),
    [
        (MMCV, {}, "mmcv is not installed (mmcv or mmcv-lite or onedl-mmcv)"),
        (MMCV, {"mmcv": "2.0.0rc3"}, "mmcv 2.0.0rc3"),
        (MMCV, {"mmcv": "2.10.0"}, "mmcv 2.10.0"),
        (MMCV, {"onedl-mmcv": "2.1.0"}, "needs onedl-mmcv>=2.3.0,<2.4.0"),
        (MMCV, {"mmcv": "2.1.0", "mmcv-lite": "2.2.0"}, "mmcv-lite 2.2.0"),
        (MMENGINE, {"mmengine": "0.9.1"}, "mmengine>=0.10.0,<1.0.0"),
        (MMENGINE, {"mmcv": "2.1.0"}, "mmengine is not installed"),
    ],
)
def test_unfit_frameworks_are_named_with_the_cure(framework, installed, named):
    fault = framework_fault(framework, installed)
    assert named in fault
    assert "make env" in fault


def test_requirements_ask_for_the_same_frameworks():
    lines = (ROOT / "requirements" / "mminstall.txt").read_text().splitlines()
    asked = {line.split("#")[0].strip() for line in lines}
    assert {needs[0] for needs in FRAMEWORKS.values()} <= asked


def test_tested_set_is_within_the_ranges():
    folder = ROOT / "requirements"
    text = (folder / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))
    for name in ("runtime", "mminstall", "tests", "optional"):
        for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.split("#")[0].strip():
                need = Requirement(line.split("#")[0])
                assert need.specifier.contains(pins[need.name], prereleases=True), line
