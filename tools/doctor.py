#!/usr/bin/env python3
"""Print versions, detect known problems of an installation and suggest fixes.

Only the standard library is imported here: libraries are tried in other processes, so
that a broken one, even one that crashes Python, does not hide the others. The exit
status is 1 if a library does not work, and 0 if there are but warnings.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "numpy", "pkg_resources", "cv2", "pycocotools")
LIBRARIES += ("mmengine", "mmcv", "mmcv._ext", "mmdet", "mmseg", "mmpretrain")
LIBRARIES += ("cluenet_mm",)
REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"

SET_UP = "remove the environment, then `make env`; for one of your own, docs/install.md"
AGAIN = "run the same command again: it continues where it stopped"

# What an import, pip or a compiler says, the problem and the fix; the first that
# matches counts. The set-up (tools/dev/setup_env.py) explains by these, too.
RULES = (
    (r"torchvision::|/torchvision/", "torchvision was made for another torch",
     "install the two together: pip install -c requirements/constraints.txt "
     "--force-reinstall torch torchvision"),
    (r"No module named 'mmcv\._ext'", "MMCV was installed without its operators, as "
     "pip does where it builds without torch", SET_UP),
    (r"mmcv/_ext\S*: undefined symbol", "MMCV's operators were compiled for another "
     "torch", SET_UP),
    (r"MMCV==(\S+) is used but incompatible", "MMCV {} is too new for MMDetection",
     'pip install --no-build-isolation "mmcv<2.2.0"'),
    (r"No module named 'pkg_resources'", "MMEngine imports pkg_resources, which "
     "setuptools dropped", 'pip install "setuptools<80"'),
    (r"No module named '(ftfy|regex)'", "MMSegmentation imports {}, but does not "
     "require it", "pip install ftfy regex"),
    (r"(lib(?:GL|gthread|SM|X)\S*\.so\S*): cannot open", "OpenCV needs {} of a desktop",
     "pip install --force-reinstall --no-deps opencv-python-headless"),
    (r"GPU unused: .*\+cpu", "there is a GPU, but this torch is built for CPUs",
     "install a CUDA build: pip install --force-reinstall torch torchvision"),
    (r"GPU unused: (.*)", "there is a GPU, but torch {} cannot use it",
     "see that CUDA_VISIBLE_DEVICES is not empty and that NVIDIA's driver is as new as "
     "this torch's CUDA (nvidia-smi)"),
    (r"No space left on device|Disk quota exceeded", "the disk is full",
     f"free some space, then {AGAIN}"),
    (r"Failed to establish a new connection|[Nn]ame resolution|service not known"
     r"|Connection (?:refused|reset|broken|aborted)|Network is unreachable|Max retries"
     r"|[Rr]ead timed out|ReadTimeout|ProxyError|SSLError|IncompleteRead",
     "cannot reach the package index", "check the network and pip's settings (`pip "
     f"config list`, PIP_INDEX_URL, proxies), then {AGAIN}"),
    (r"DO NOT MATCH THE HASHES", "a download was damaged", AGAIN),
    (r"No matching distribution found for (\S+)", "the package index has no {} that "
     "fits", "the tested set is for Linux x86-64 with glibc 2.28 or later"),
    (r"Killed signal terminated|out of memory|bad_alloc", "the compiler ran out of "
     "memory", f"set MAX_JOBS=1, then {AGAIN}"),
    (r"ensurepip is not available|No module named '?(?:venv|ensurepip)",
     "Python cannot make virtual environments", "install its module venv (Debian, "
     "Ubuntu: apt-get install python3-venv)"),
    (r"(?m)^(\S+:\d+: .*error: .*)$", "{}", "see docs/troubleshooting.md"),
    (r"No module named '(\S+)'", "{} is not installed", SET_UP),
    (r"(?m)^(.*Error: .*)$", "{}", SET_UP),
    (r"(?m)^(.*(?:error|ERROR): .*)$", "{}", "see docs/troubleshooting.md"),
    (r"(?m)^(.*\S.*)\s*\Z", "{}", "see docs/troubleshooting.md"),
)  # fmt: skip

TRY_IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        error = ""
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}".strip().split("\\n")[0]
    print("\\nTRIED " + json.dumps([name, error]), flush=True)
"""
COLLECT = """
import json
from mmengine.utils.dl_utils import collect_env
facts = {name: str(fact).split("\\n")[0] for name, fact in collect_env().items()}
print("\\nFACTS " + json.dumps(facts))
"""


def explain(output: str) -> str:
    """The problem and its fix, in one line, for what something that failed printed."""
    if fault := re.search(r"(?m)^fault: (.+)$", output):
        return fault.group(1)  # a report of this tool
    for pattern, problem, fix in RULES:
        found = re.search(pattern, output)
        if found:
            return f"{problem.format(*map(str.strip, found.groups()))}: {fix}"
    return "it ended without a word"


def run_python(code: str, *arguments: str) -> tuple[str, int]:
    """Output and status of code in another process, away from the checkout."""
    command = [sys.executable, "-c", code, *arguments]
    away = tempfile.gettempdir()
    result = subprocess.run(command, cwd=away, capture_output=True, errors="replace")
    return result.stdout, result.returncode


def try_imports(modules: tuple[str, ...]) -> dict[str, str]:
    """What importing each module says, empty if it works."""
    results: dict[str, str] = {}
    while waiting := [name for name in modules if name not in results]:
        output, status = run_python(TRY_IMPORTS, *waiting)
        results.update(map(json.loads, re.findall(r"(?m)^TRIED (.*)$", output)))
        if waiting[-1] not in results:
            crashed = next(name for name in waiting if name not in results)
            results[crashed] = f"importing it ends Python with status {status}"
    return results


def collect_facts() -> dict[str, str]:
    """What MMEngine finds out about this machine, empty if it does not work."""
    found = re.search(r"(?m)^FACTS (.*)$", run_python(COLLECT)[0])
    facts = json.loads(found.group(1)) if found else {}
    idle = ("PyTorch compiling details", "MUSA available", "numpy_random_seed")
    return {name: fact for name, fact in facts.items() if name not in idle}


def out_of_range() -> Iterator[str]:
    """Installed releases that the lists of requirements exclude, and why they do."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return  # one of the imports that fail

    for name in ("runtime", "mminstall"):
        for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
            text, _, reason = line.partition("#")
            if not text.strip():
                continue
            need = Requirement(text.strip())
            try:
                version = metadata.version(need.name)
            except metadata.PackageNotFoundError:
                continue  # a stand-in may be there; the trial of the import tells
            if not need.specifier.contains(version, prereleases=True):
                why = f" ({reason.strip()})" if reason else ""
                yield f'{need.name} {version} does not fit{why}: pip install "{need}"'


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--explain", type=Path, metavar="LOG", help="explain a failed log in one line"
    )
    options = parser.parse_args()
    if options.explain:
        print(explain(options.explain.read_text(errors="replace")))
        return 0
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        print(f"fault: Python {sys.version.split()[0]} is not one of 3.10 to 3.12")
        return 1
    errors, facts = try_imports(LIBRARIES), collect_facts()
    distributions = metadata.packages_distributions()
    faults = [explain(f"{name}: {error}") for name, error in errors.items() if error]
    for name, error in errors.items():
        found = sorted(set(distributions.get(name, ())))
        versions = ", ".join(f"{each} {metadata.version(each)}" for each in found)
        status = f"DOES NOT IMPORT ({error})" if error else "imports"
        print(f"{name:<18}{versions:<26}{status}")
        if len(found) > 1 and name != "cv2":
            faults.append(f"{name} is installed twice ({versions}): {SET_UP}")
    print(f"{'executable':<18}{sys.executable}")
    for name, fact in facts.items():
        print(f"{name:<18}{fact}")
    warnings = list(out_of_range())
    if facts.get("CUDA available") == "False" and any(
        Path("/dev").glob("nvidia[0-9]*")
    ):
        warnings.append(explain(f"GPU unused: {facts['PyTorch']}"))
    for level, problems in (("fault", faults), ("warning", warnings)):
        for problem in dict.fromkeys(problems):
            print(f"{level}: {problem}")
    if not faults + warnings:
        print("no problem found")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
