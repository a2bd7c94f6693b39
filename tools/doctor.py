#!/usr/bin/env python3
"""Tell what is installed, find the known faults and name the cure of each.

Only the standard library is imported here: each library is tried in another process,
so that a broken one, even one that crashes Python, does not hide the others.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple

Facts = dict[str, Any]

# What is shown: the import name and the distributions that may bring it.
LIBRARIES = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "triton": ("triton",),
    "numpy": ("numpy",),
    "pkg_resources": ("setuptools",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "pycocotools": ("pycocotools",),
    "mmengine": ("mmengine", "mmengine-lite", "onedl-mmengine"),
    "mmcv": ("mmcv", "mmcv-lite", "onedl-mmcv"),
    "mmcv._ext": (),
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "mmseg": ("mmsegmentation", "onedl-mmsegmentation"),
    "mmpretrain": ("mmpretrain", "onedl-mmpretrain"),
    "cluenet_mm": ("cluenet_mm",),
}
OPTIONAL = ("triton",)
CONSTRAINTS = Path(__file__).resolve().parents[1] / "requirements" / "constraints.txt"

TRY_IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        error = ""
    except BaseException as problem:
        lines = str(problem).strip().splitlines() or [""]
        error = f"{type(problem).__name__}: {lines[0]}"
    print("TRIED " + json.dumps([name, error]), flush=True)
"""
TRY_CUDA = """
import json, torch
seen = torch.cuda.is_available()
count = torch.cuda.device_count() if seen else 0
names = [torch.cuda.get_device_name(i) for i in range(count)]
print("CUDA " + json.dumps({"built": torch.version.cuda or "", "devices": names}))
"""


class Finding(NamedTuple):
    """Something wrong and its cure; a warning does not make the exit status 1."""

    level: str
    problem: str
    cure: str


# ---- facts --------------------------------------------------------------------------


def gather() -> Facts:
    """Look at this machine and this Python."""
    return {
        "python": "{}.{}.{}".format(*sys.version_info[:3]),
        "executable": sys.executable,
        "venv": sys.prefix if sys.prefix != sys.base_prefix else "",
        "versions": {name: installed(dists) for name, dists in LIBRARIES.items()},
        "imports": try_imports(list(LIBRARIES)),
        "mmcv_below": mmcv_maximum(),
        "compiler": compiler(),
        "gpus": nvidia_gpus(),
        "cuda": try_cuda(),
        "pins": pins(),
    }


def installed(distributions: tuple[str, ...]) -> str:
    """Version of each that is installed, with its name if that is not the first."""
    found = []
    for name in distributions:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        usual = name == distributions[0]
        found.append(version if usual else f"{version} ({name})")
    return " and ".join(found)


def try_imports(modules: list[str]) -> dict[str, str]:
    """What importing each module says, empty if it works."""
    results: dict[str, str] = {}
    while waiting := [name for name in modules if name not in results]:
        output, status = run_python(TRY_IMPORTS, *waiting)
        for line in re.findall(r"^TRIED (.*)$", output, re.MULTILINE):
            name, error = json.loads(line)
            results[name] = error
        unfinished = [name for name in waiting if name not in results]
        if unfinished:
            results[unfinished[0]] = f"importing it ends Python with status {status}"
    return results


def try_cuda() -> dict[str, Any]:
    """CUDA release that torch is built for and the devices it can use."""
    found = re.search(r"^CUDA (.*)$", run_python(TRY_CUDA)[0], re.MULTILINE)
    return json.loads(found.group(1)) if found else {"built": "", "devices": []}


def run_python(code: str, *arguments: str) -> tuple[str, int]:
    """Output and status of code in another process, away from the checkout."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=300,
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace"), 124
    return result.stdout.decode(errors="replace"), result.returncode


def mmcv_maximum() -> str:
    """First mmcv release that the installed mmdet refuses, read from its source."""
    spec = util.find_spec("mmdet")
    if spec is None or not spec.origin:
        return ""
    source = Path(spec.origin).read_text(encoding="utf-8")
    found = re.search(r"^mmcv_maximum_version = ['\"](.+)['\"]", source, re.MULTILINE)
    return found.group(1) if found else ""


def compiler() -> str:
    """First line that the C++ compiler prints about itself."""
    path = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return first_line([path, "--version"]) if path else ""


def nvidia_gpus() -> list[str]:
    """Names of the GPUs that NVIDIA's driver knows."""
    path = shutil.which("nvidia-smi")
    if not path:
        return []
    command = [path, "--query-gpu=name", "--format=csv,noheader"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    return result.stdout.split("\n")[:-1] if result.returncode == 0 else []


def first_line(command: list[str]) -> str:
    """First line that a command prints."""
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    return (result.stdout.splitlines() or [""])[0]


def pins() -> dict[str, str]:
    """The tested versions; none where the constraint file is not shipped."""
    if not CONSTRAINTS.exists():
        return {}
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


# ---- checks: each takes the facts and yields what is wrong --------------------------


def check_python(facts: Facts) -> list[Finding]:
    """Python outside 3.10 to 3.12."""
    if (3, 10) <= release(facts["python"])[:2] <= (3, 12):
        return []
    problem = f"Python {facts['python']} is not supported (3.10 to 3.12 are)"
    return [Finding("fault", problem, "make env PYTHON=python3.11 VENV=.venv")]


def check_torchvision(facts: Facts) -> list[Finding]:
    """A torchvision made for another torch."""
    error = facts["imports"].get("torchvision", "")
    strange = ("torchvision::", "undefined symbol", "_C.so")
    if not any(sign in error for sign in strange):
        return []
    versions = facts["versions"]
    problem = (
        f"torchvision {versions['torchvision']} is not made for torch "
        f"{versions['torch']} ({error})"
    )
    return [Finding("fault", problem, install(facts, "torch", "torchvision"))]


def check_operators(facts: Facts) -> list[Finding]:
    """An mmcv without its compiled operators, or with those of another torch."""
    error = facts["imports"].get("mmcv._ext", "")
    if not facts["versions"]["mmcv"] or facts["imports"].get("mmcv") or not error:
        return []
    if "No module named" in error:
        problem = "mmcv is installed without its compiled operators (mmcv._ext)"
    else:
        problem = f"mmcv's operators do not load, built for another torch? ({error})"
    return [Finding("fault", problem, set_up(facts))]


def check_mmcv_range(facts: Facts) -> list[Finding]:
    """An mmcv that mmdet refuses."""
    version, below = facts["versions"]["mmcv"], facts["mmcv_below"]
    if not version or not below or release(version) < release(below):
        return []
    problem = f"mmcv {version} is too new for mmdet, which wants one below {below}"
    return [Finding("fault", problem, set_up(facts))]


def check_doubles(facts: Facts) -> list[Finding]:
    """One import name from two distributions: the later one overwrote files."""
    return [
        Finding("fault", f"{name} is installed twice: {version}", set_up(facts))
        for name, version in facts["versions"].items()
        if " and " in version and name != "cv2"
    ]


def check_setuptools(facts: Facts) -> list[Finding]:
    """A setuptools without pkg_resources, which mmengine imports."""
    version = facts["versions"]["pkg_resources"]
    cure = install(facts, "setuptools")
    if facts["imports"].get("pkg_resources"):
        what = (
            f"setuptools {version} is too new" if version else "setuptools is missing"
        )
        problem = f"{what}: mmengine imports its pkg_resources"
        return [Finding("fault", problem, cure)]
    if release(version) >= (80,):
        problem = f"setuptools {version} is newer than tested (below 80)"
        return [Finding("warning", problem, cure)]
    return []


def check_numpy(facts: Facts) -> list[Finding]:
    """A numpy that breaks Triton's interpreter."""
    version = facts["versions"]["numpy"]
    if not version or release(version) < (2, 4):
        return []
    problem = f"numpy {version} breaks Triton's interpreter (TRITON_INTERPRET=1)"
    return [Finding("warning", problem, install(facts, "numpy"))]


def check_opencv(facts: Facts) -> list[Finding]:
    """An OpenCV that wants libraries of a desktop."""
    error = facts["imports"].get("cv2", "")
    library = re.search(r"lib\w+\.so[\w.]*", error)
    if not library:
        return []
    cure = install(facts, "--force-reinstall --no-deps", "opencv-python-headless")
    return [Finding("fault", f"OpenCV finds no {library.group(0)}", cure)]


def check_cuda(facts: Facts) -> list[Finding]:
    """A GPU that torch cannot use."""
    if not facts["gpus"] or facts["cuda"]["devices"] or facts["imports"].get("torch"):
        return []
    gpu, built = facts["gpus"][0], facts["cuda"]["built"]
    if not built:
        problem = f"{gpu} is there, but torch {facts['versions']['torch']} is CPU-only"
        cure = install(facts, "--force-reinstall", "torch", "torchvision")
        return [Finding("fault", problem, cure)]
    problem = f"{gpu} is there, but torch, built for CUDA {built}, cannot use it"
    cure = (
        f"update NVIDIA's driver to one for CUDA {built.split('.')[0]} (nvidia-smi "
        "shows what it supports) and see that CUDA_VISIBLE_DEVICES is not empty"
    )
    return [Finding("fault", problem, cure)]


def check_imports(facts: Facts) -> list[Finding]:
    """Libraries that are missing or do not import for no reason known here."""
    return [
        Finding("fault", f"{name} does not import ({error})", set_up(facts))
        for name, error in facts["imports"].items()
        if error and name not in OPTIONAL
    ]


CHECKS: tuple[Callable[[Facts], list[Finding]], ...] = (
    check_python,
    check_torchvision,
    check_setuptools,
    check_opencv,
    check_doubles,
    check_mmcv_range,
    check_operators,
    check_cuda,
    check_numpy,
)


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, faults first.

    A known fault makes other imports fail too, so that those are named only where no
    known fault was found; the table shows them in any case.
    """
    findings = [finding for check in CHECKS for finding in check(facts)]
    if not any(finding.level == "fault" for finding in findings):
        findings += check_imports(facts)
    return sorted(findings, key=lambda finding: finding.level != "fault")


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers.group(0).split("."))) if numbers else ()


def install(facts: Facts, *words: str) -> str:
    """The pip command for options and packages, these at their tested versions."""
    pinned = [f"{w}=={facts['pins'][w]}" if w in facts["pins"] else w for w in words]
    return f"{facts['executable']} -m pip install {' '.join(pinned)}"


def set_up(facts: Facts) -> str:
    """The command that repairs this environment, or makes one."""
    if not facts["venv"]:
        return "make env, then use the Python in .venv"
    return f"python3 tools/setup_env.py --venv {facts['venv']} --again"


# ---- report -------------------------------------------------------------------------


def table(facts: Facts) -> list[str]:
    """The facts, a line each."""
    rows = [("python", f"{facts['python']} ({facts['executable']})")]
    for name in LIBRARIES:
        version, error = facts["versions"][name], facts["imports"][name]
        if name == "mmcv._ext":
            rows.append((name, "no" if error else "yes"))
        elif not version and error:
            rows.append((name, "not installed"))
        else:
            shown = "setuptools" if name == "pkg_resources" else name
            failed = f"  DOES NOT IMPORT: {error}" if error else ""
            rows.append((shown, (version or "not installed, but found") + failed))
    cuda, devices = facts["cuda"], ", ".join(facts["cuda"]["devices"])
    rows.append(("compiler", facts["compiler"] or "none found"))
    rows.append(("CUDA of torch", cuda["built"] or "none (CPU build)"))
    rows.append(("CUDA devices", devices or "none seen"))
    return [f"{name:<15}{value}" for name, value in rows]


def main() -> int:
    """Print the report; the status is 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.parse_args()
    facts = gather()
    findings = diagnose(facts)
    print("\n".join(table(facts)), end="\n\n")
    for finding in findings:
        print(f"{finding.level}: {finding.problem}\n  cure: {finding.cure}")
    if not findings:
        print("no fault found")
    return int(any(finding.level == "fault" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
