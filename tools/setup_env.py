#!/usr/bin/env python3
"""Set up the tested environment: a virtual environment with everything in it.

Standard library only, run by the system's Python. What is finished is recorded in the
virtual environment, so that a second run starts at once and an interrupted one picks
up again. Nothing here may need more than Python 3.6 up to the version check, so that
an old Python gets its one clear line.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = (3, 10), (3, 12)


def python_fault(version: tuple, what: str) -> str:
    """Say that a Python version cannot be used; empty if it can."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return ""
    return (
        "{} is Python {}.{}, but 3.10, 3.11 or 3.12 is needed: install one of them, or "
        "name it (make: PYTHON=python3.11)".format(what, *version[:2])
    )


if __name__ == "__main__" and python_fault(sys.version_info, sys.executable):
    sys.exit("set-up failed: " + python_fault(sys.version_info, sys.executable))

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
CONSTRAINTS = REQUIREMENTS / "constraints.txt"
LIBRARIES = ("torchvision", "cv2", "mmcv._ext", "mmdet", "mmseg", "mmpretrain")
LISTS = ("runtime", "mminstall", "tests", "optional")
TORCH = ("torch", "torchvision")
BUILD_TOOLS = ("pip", "setuptools", "wheel", "ninja", "psutil")
DISK_FULL = r"No space left on device|Disk quota exceeded"
RESUMES = "run the same command again: it picks up where it stopped"


class SetupError(Exception):
    """What went wrong and what to do, in one line."""


class Place(NamedTuple):
    """Where things go: the virtual environment and the cache."""

    venv: Path
    cache: Path

    @property
    def python(self) -> str:
        """The interpreter of the virtual environment."""
        return str(self.venv / "bin" / "python")

    @property
    def state(self) -> Path:
        """The record of finished steps."""
        return self.venv / ".cluenet_mm.json"

    def python_version(self) -> tuple[int, ...]:
        """Version of the virtual environment's Python, or of the one it will get."""
        try:
            config = (self.venv / "pyvenv.cfg").read_text(encoding="utf-8")
        except FileNotFoundError:
            return sys.version_info[:2]
        found = re.search(r"^version\w* *= *(\d+)\.(\d+)", config, re.MULTILINE)
        return tuple(int(n) for n in found.groups()) if found else sys.version_info[:2]

    def python_works(self) -> bool:
        """Tell whether the virtual environment has a Python with pip that starts."""
        try:
            return ask(self.python, "import pip._internal.cli.main") == ""
        except (OSError, subprocess.CalledProcessError):
            return False

    def has(self, package: str) -> bool:
        """Tell whether the tested version of a package is completely installed."""
        info = f"{package}-{pins()[package]}*.dist-info/RECORD"
        return any(self.venv.glob(f"lib/python*/site-packages/{info}"))

    def log(self, step: str) -> Path:
        """The full output of a step."""
        return self.cache / "logs" / f"{step}.log"


class Step(NamedTuple):
    """A part of the set-up that is done again when what it depends on changes."""

    name: str
    run: Callable[[Place], None]
    depends: Callable[[Place], str]


# ---- what is finished ---------------------------------------------------------------


def read_state(place: Place) -> dict[str, str]:
    """Keys of the finished steps; none of them if the interpreter is gone."""
    try:
        done = json.loads(place.state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return done if os.path.exists(place.python) else {}


def write_state(place: Place, done: dict[str, str]) -> None:
    """Record the finished steps; never leaves half a file."""
    draft = place.state.with_suffix(".new")
    draft.write_text(json.dumps(done, indent=1), encoding="utf-8")
    os.replace(draft, place.state)


def pending(place: Place, steps: tuple[Step, ...]) -> list[tuple[Step, str]]:
    """The steps still to do with their keys: the first unfinished one and all after.

    A key is the hash of all that the step and the steps before it depend on.
    """
    done, todo, key = read_state(place), [], ""
    for step in steps:
        key = digest(key, step.name, step.depends(place))
        if todo or done.get(step.name) != key:
            todo.append((step, key))
    return todo


def run_steps(place: Place, steps: tuple[Step, ...]) -> None:
    """Do what is still to do, recording each step as soon as it is finished."""
    for step, key in pending(place, steps):
        done = read_state(place)
        place.log(step.name).parent.mkdir(parents=True, exist_ok=True)
        place.log(step.name).write_text("", encoding="utf-8")
        step.run(place)
        write_state(place, {**done, step.name: key})


def digest(*parts: str) -> str:
    """A short hash of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def content(*files: Path) -> str:
    """A short hash of files."""
    return digest(*(f"{f.name}\n{f.read_text(encoding='utf-8')}" for f in files))


def pins() -> dict[str, str]:
    """The tested version of each package."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


# ---- running commands ---------------------------------------------------------------


class Progress:
    """One line that changes on a terminal; elsewhere a line every 20 seconds."""

    every = 20.0

    def __init__(self, title: str) -> None:
        self.title, self.text, self.start = title, "", time.monotonic()
        self.live, self.shown = sys.stdout.isatty(), self.start
        if not self.live:
            print(f"  {title}", flush=True)

    def show(self, note: str) -> None:
        """Show what is going on, if it is time to."""
        now = time.monotonic()
        text = f"  {self.title}: {note or 'at work'} ({clock(now - self.start)})"
        if self.live and text != self.text:
            self.text = text
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{text[:width]}", end="", flush=True)
        elif not self.live and now - self.shown >= self.every:
            self.shown = now
            print(text, flush=True)

    def close(self, word: str) -> None:
        """Leave the last word on the line."""
        start = "\r\033[K" if self.live else ""
        taken = clock(time.monotonic() - self.start)
        print(f"{start}  {self.title}: {word} ({taken})", flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return "{}:{:02d}".format(*divmod(int(seconds), 60))


def lines_of(stream: object, wait: float) -> Iterator[str]:
    """Lines of a pipe as they come, and an empty one whenever ``wait`` s pass."""
    rest = b""
    while True:
        if not select.select([stream], [], [], wait)[0]:
            yield ""
            continue
        chunk = os.read(stream.fileno(), 65536)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
        if not chunk:
            yield rest.decode(errors="replace")
            return


def run(
    command: list[str],
    log: Path,
    title: str,
    note: Callable[[str], str],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command with progress; returns its status and output, kept in ``log``."""
    progress, shown, output = Progress(title), "", []
    with log.open("a", buffering=1, encoding="utf-8") as sink:
        sink.write(f"$ {shlex.join(command)}\n")
        # In a session of its own, so that Ctrl-C reaches the whole family through
        # stop() and no grandchild is left at work. It keeps the lock's descriptor: a
        # next set-up waits even for a child whose parent was killed.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=child_environment(command[0], env),
            start_new_session=True,
            close_fds=False,
        )
        try:
            for line in lines_of(child.stdout, wait=1.0):
                if line:
                    sink.write(line + "\n")
                    output.append(line)
                shown = note(line) or shown
                progress.show(shown)
            status = child.wait()
        except BaseException:
            stop(child)
            progress.close("stopped")
            raise
    progress.close("failed" if status else "done")
    return status, "\n".join(output)


def child_environment(program: str, extra: dict[str, str] | None) -> dict[str, str]:
    """The caller's environment with the virtual environment's programs first."""
    env = {**os.environ, **(extra or {})}
    for name in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__"):
        env.pop(name, None)
    env["PATH"] = os.pathsep.join(
        [os.path.dirname(program), os.environ.get("PATH", os.defpath)]
    )
    return env


def stop(child: subprocess.Popen) -> None:
    """End a command and all it started."""
    for sign, patience in ((signal.SIGINT, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            return


def ask(python: str, code: str, *arguments: str) -> str:
    """Output of a few lines of Python, run by another interpreter."""
    return subprocess.run(
        [python, "-I", "-c", code, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        encoding="utf-8",
        errors="replace",
    ).stdout.strip()


def last_words(error: subprocess.CalledProcessError) -> str:
    """The last line of what a failed program said."""
    return last_match(r".*\S.*", error.stderr) or f"exit status {error.returncode}"


def pip(place: Place, step: str, title: str, *arguments: str) -> None:
    """Run pip; what fails becomes one line."""
    drop_half_installed(place)
    command = [place.python, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    log = place.log(step)
    status, output = run([*command, *arguments], log, title, pip_note)
    if status:
        raise SetupError(f"{explain_pip(output)} (all output: {log})")


def pip_note(line: str) -> str:
    """The part of a line of pip that is worth showing."""
    found = re.match(r"\s*((?:Collecting|Downloading|Using cached|Building) \S+)", line)
    if found:
        return found.group(1)
    return "unpacking" if line.startswith("Installing collected") else ""


def explain_pip(output: str) -> str:
    """One line with the cure for what pip printed before it failed."""
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if re.search(DISK_FULL, output):
        return f"the disk is full: free some space, then {RESUMES}"
    if re.search(
        r"Failed to establish a new connection|Temporary failure in name resolution"
        r"|Name or service not known|Connection (?:refused|reset|broken|aborted)"
        r"|Network is unreachable|Max retries exceeded|Read ?[Tt]imed? ?out"
        r"|ReadTimeoutError|ProxyError|SSLError|IncompleteRead",
        output,
    ):
        return (
            "the package index cannot be reached: check the network and pip's settings "
            f"(`pip config list`, PIP_INDEX_URL, proxies), then {RESUMES}"
        )
    if "DO NOT MATCH THE HASHES" in output:
        return f"a download was damaged: {RESUMES}"
    if missing:
        return (
            f"the package index offers no fit {missing.group(1)}: the "
            "tested set is for Linux x86-64 with glibc 2.28 or later and needs an "
            "index that carries what PyPI does (`pip config list` shows yours)"
        )
    if re.search(r"ResolutionImpossible|conflicting dependencies", output):
        return (
            "requirements/constraints.txt contradicts the requirements beside it: see "
            "requirements/README.md"
        )
    if "Permission denied" in output:
        return "no permission: " + last_match(".*Permission denied.*", output)
    return "pip failed: " + (
        last_match(r"ERROR: .*", output) or last_match(r".*\S.*", output)
    )


def last_match(pattern: str, text: str) -> str:
    """The last part of a text that matches."""
    found = re.findall(pattern, text)
    return found[-1].strip() if found else ""


def drop_half_installed(place: Place) -> None:
    """Forget packages whose installation was cut off, so that pip does them again.

    pip writes RECORD last, but takes a package for installed without it.
    """
    for info in place.venv.glob("lib/python*/site-packages/*.dist-info"):
        if not (info / "RECORD").exists():
            shutil.rmtree(info)


# ---- checks of the machine ----------------------------------------------------------


def check_machine(place: Place, names: list[str]) -> None:
    """Raise SetupError if the steps of these names cannot work on this machine."""
    check_folder(place.venv)
    fault = python_fault(place.python_version(), f"the environment {place.venv}")
    if fault:
        raise SetupError(f"{fault}, and remove {place.venv} or name another (VENV=)")
    check_disk(disk_needs(place, names))
    works = place.python_works()
    if not works:
        check_venv_module()
    if "mmcv" in names and not find_wheel(place, wheel_kind(place)):
        check_compiler(place.python if works else sys.executable)


def check_folder(venv: Path) -> None:
    """Refuse a folder that holds something else."""
    if not sys.platform.startswith("linux"):
        raise SetupError("the set-up is for Linux: use a Linux machine or container")
    if not (ROOT / "pyproject.toml").exists():
        raise SetupError("run the set-up from a checkout, not from an installed copy")
    other = venv.exists() and not (venv / "pyvenv.cfg").exists()
    if other and not (venv.is_dir() and not any(venv.iterdir())):
        raise SetupError(
            f"{venv} exists and is no virtual environment: name another (VENV=)"
        )


def disk_needs(place: Place, names: list[str]) -> dict[Path, float]:
    """Gigabytes that the steps of these names take, by folder."""
    needs = {place.venv: 0.1, place.cache: 0.1}
    if "torch" in names and not place.has("torch"):
        needs[place.venv] += 5.0
        needs[Path(tempfile.gettempdir())] = 3.0
        needs[Path.home() / ".cache"] = 3.0
    if "mmcv" in names:
        needs[place.cache] += 0.5
    if "packages" in names:
        needs[place.venv] += 0.7
    return needs


def check_disk(needs: dict[Path, float]) -> None:
    """Raise SetupError if a file system has not the gigabytes asked for."""
    total, folders = {}, {}
    for folder, gigabytes in needs.items():
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        device = existing.stat().st_dev
        total[device] = total.get(device, 0.0) + gigabytes
        folders.setdefault(device, existing)
    for device, gigabytes in total.items():
        free = shutil.disk_usage(folders[device]).free / 1e9
        if free < gigabytes:
            raise SetupError(
                f"the disk of {folders[device]} has {free:.1f} GB free, and the set-up "
                f"needs {gigabytes:.1f} GB there: free some, or use other disks (VENV= "
                "for the environment, CLUENET_MM_CACHE for the cache, TMPDIR)"
            )


def check_venv_module() -> None:
    """Raise SetupError where the distribution split ``venv`` off its Python."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise SetupError(
            f"{sys.executable} has no module {error.name}: install it (Debian and "
            "Ubuntu: apt-get install python{}.{}-venv)".format(*sys.version_info[:2])
        ) from error


def find_compiler() -> str:
    """The C++ compiler; empty if there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name.strip() and shutil.which(shlex.split(name)[0]):
            return name
    return ""


def check_compiler(python: str) -> None:
    """Raise SetupError unless a C++17 compiler works and Python's headers are there."""
    compiler = find_compiler()
    if not compiler:
        raise SetupError(
            "no C++ compiler was found (c++, g++, clang++ or $CXX), and MMCV's "
            "operators must be compiled: install one (Debian and Ubuntu: apt-get "
            "install g++; Fedora: dnf install gcc-c++)"
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trial.cpp"
        source.write_text("#include <optional>\nstd::optional<int> trial;\n")
        command = [*shlex.split(compiler), "-std=c++17", "-c", str(source)]
        result = subprocess.run(
            [*command, "-o", str(source.with_suffix(".o"))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    if result.returncode:
        raise SetupError(
            f"the compiler {compiler} cannot compile C++17 "
            f"({last_match('.*error.*', result.stdout) or 'no message'}): install "
            "another (Debian and Ubuntu: apt-get install g++) or name it in CXX"
        )
    header = Path(ask(python, INCLUDE), "Python.h")
    if not header.exists():
        raise SetupError(
            f"Python's headers are missing ({header}): install them (Debian and "
            "Ubuntu: apt-get install python{}.{}-dev)".format(*sys.version_info[:2])
        )


INCLUDE = "import sysconfig; print(sysconfig.get_path('include'))"


# ---- the steps ----------------------------------------------------------------------


def make_venv(place: Place) -> None:
    """Create the virtual environment, or repair one without a working pip."""
    if place.python_works():
        return
    command = [sys.executable, "-m", "venv", str(place.venv)]
    status, output = run(command, place.log("venv"), "folder", lambda line: "")
    if status:
        # ensurepip keeps to itself what its pip said.
        full = shutil.disk_usage(place.venv.parent).free < 1e8
        why = "the disk is full" if full else last_match(r".*rror.*", output)
        log = place.log("venv")
        raise SetupError(f"{place.venv} cannot be made: {why} (all output: {log})")


def install_torch(place: Place) -> None:
    """Install PyTorch and the tools that build MMCV."""
    title = f"PyTorch {pins()['torch']} (some minutes)"
    for what, names in (("build tools", BUILD_TOOLS), (title, TORCH)):
        pip(place, "torch", what, "install", "-c", str(CONSTRAINTS), *names)


def install_mmcv(place: Place) -> None:
    """Install MMCV with its operators, from a wheel built before if there is one."""
    kind = wheel_kind(place)
    wheel = find_wheel(place, kind)
    if wheel:
        install_wheel(place, wheel)
        if not operators_fault(place):
            return
        wheel.unlink()
    install_wheel(place, build_wheel(place, kind))
    fault = operators_fault(place)
    if fault:
        raise SetupError(f"MMCV's operators were built but do not load: {fault}")


def install_packages(place: Place) -> None:
    """Install everything else."""
    lists = [part for n in LISTS for part in ("-r", str(REQUIREMENTS / f"{n}.txt"))]
    install = ("install", "-c", str(CONSTRAINTS))
    pip(place, "packages", "the other packages", *install, *lists)
    if "libGL" in import_fault(place, "cv2"):
        # The ordinary OpenCV needs libGL, which a machine without a desktop lacks. The
        # headless one has the same files without that need.
        over = ("--force-reinstall", "--no-deps", "opencv-python-headless")
        pip(place, "packages", "OpenCV without libGL", *install, *over)


def check_imports(place: Place) -> None:
    """Raise SetupError if a library does not import."""
    progress = Progress("imports of " + ", ".join(LIBRARIES))
    fault = import_fault(place, *LIBRARIES)
    progress.close("failed" if fault else "done")
    if fault:
        raise SetupError(
            f"{fault}: `{place.python} tools/doctor.py` names the cure; if that does "
            f"not help, remove {place.venv} and run this again"
        )


def install_project(place: Place) -> None:
    """Install this checkout, editable."""
    options = ("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    pip(place, "project", "cluenet_mm, editable", "install", *options)
    fault = import_fault(place, "cluenet_mm")
    if fault:
        raise SetupError(fault)


def import_fault(place: Place, *modules: str) -> str:
    """The first of the modules that does not import and why; empty if all do."""
    code = "import importlib, sys\nfor name in sys.argv[1:]:"
    code += "\n  print('importing', name, flush=True)\n  importlib.import_module(name)"
    try:
        ask(place.python, code, *modules)
    except subprocess.CalledProcessError as error:
        module = last_match(r"importing (\S+)", error.stdout)
        return f"{module} does not import ({last_words(error)})"
    return ""


STEPS = (
    Step(
        "venv",
        make_venv,
        lambda place: digest(
            str(place.venv), str(place.python_version()), content(Path(__file__))
        ),
    ),
    Step("torch", install_torch, lambda place: content(CONSTRAINTS)),
    Step("mmcv", install_mmcv, lambda place: str(gpu_and_nvcc())),
    Step(
        "packages",
        install_packages,
        lambda place: content(*(REQUIREMENTS / f"{name}.txt" for name in LISTS)),
    ),
    Step("imports", check_imports, lambda place: ""),
    Step(
        "project",
        install_project,
        lambda place: digest(
            str(ROOT), content(ROOT / "setup.py", ROOT / "pyproject.toml")
        ),
    ),
)


# ---- MMCV's operators ---------------------------------------------------------------


def gpu_and_nvcc() -> bool:
    """Tell cheaply whether CUDA operators may be wanted and could be compiled."""
    gpu = bool(list(Path("/dev").glob("nvidia[0-9]*")))
    return (gpu or os.environ.get("FORCE_CUDA") == "1") and bool(find_nvcc())


def find_nvcc() -> str:
    """The CUDA compiler; empty if there is none."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    folders = [os.path.join(home, "bin") for home in homes if home]
    path = [*folders, os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]
    return shutil.which("nvcc", path=os.pathsep.join(path)) or ""


def wheel_kind(place: Place) -> str:
    """What a wheel of the operators is good for: PyTorch, Python and device."""
    tag = "cp{}{}".format(*place.python_version())
    return f"{pins()['torch']}-{tag}-{device_kind(place)}"


def device_kind(place: Place) -> str:
    """``cpu``, or ``cuda`` with the architectures to compile for."""
    if not gpu_and_nvcc():
        return "cpu"
    code = (
        "import torch\n"
        "seen = torch.cuda.is_available()\n"
        "arch = '%d.%d' % torch.cuda.get_device_capability() if seen else ''\n"
        "print(torch.version.cuda or '', arch, sep=',')"
    )
    try:
        built, arch = ask(place.python, code).split(",")
    except (OSError, subprocess.CalledProcessError):
        return "cpu"
    arch = os.environ.get("TORCH_CUDA_ARCH_LIST", arch)
    version = subprocess.run([find_nvcc(), "--version"], stdout=subprocess.PIPE).stdout
    release = re.search(rb"release (\d+)", version)
    fits = release and built.split(".")[0] == release.group(1).decode()
    return "cuda" + re.sub(r"\W+", "_", arch) if fits and arch else "cpu"


def find_wheel(place: Place, kind: str) -> Path | None:
    """A wheel built before."""
    folder = place.cache / "wheels" / kind
    return next(folder.glob(f"mmcv-{pins()['mmcv']}-*.whl"), None)


def install_wheel(place: Place, wheel: Path) -> None:
    """Install a wheel in place of whatever MMCV is there, under whatever name."""
    names = ("mmcv", "mmcv-lite", "mmcv-full", "onedl-mmcv")
    pip(place, "mmcv", "older MMCV, if any", "uninstall", "--yes", *names)
    options = ("--no-deps", str(wheel))
    pip(place, "mmcv", f"MMCV {wheel.parent.name}", "install", *options)


def operators_fault(place: Place) -> str:
    """What loading the operators says; MMCV itself needs packages not there yet."""
    code = (
        "import importlib.util as u, glob, os, torch\n"
        "folder = u.find_spec('mmcv').submodule_search_locations[0]\n"
        "file = glob.glob(os.path.join(folder, '_ext*.so'))[0]\n"
        "u.module_from_spec(u.spec_from_file_location('mmcv._ext', file))"
    )
    try:
        ask(place.python, code)
    except subprocess.CalledProcessError as error:
        return last_words(error)
    return ""


def build_wheel(place: Place, kind: str) -> Path:
    """Compile the operators in a folder that stays until the wheel is there."""
    check_compiler(place.python)
    source = unpack_source(place, kind)
    title = "MMCV's operators (4 to 12 minutes on 2 cores)"
    status, output = run(
        [place.python, "setup.py", "bdist_wheel", "--dist-dir", "dist"],
        place.log("mmcv"),
        title,
        lambda line: compile_note(line, source),
        cwd=source,
        env=build_environment(place, kind),
    )
    if status:
        raise SetupError(f"{explain_build(output)} (all output: {place.log('mmcv')})")
    built = next((source / "dist").glob("mmcv-*.whl"))
    with zipfile.ZipFile(built) as wheel:
        if not any(name.startswith("mmcv/_ext") for name in wheel.namelist()):
            raise SetupError(
                f"MMCV was built without operators (all output: {place.log('mmcv')})"
            )
    kept = place.cache / "wheels" / kind / built.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(built, kept)
    shutil.rmtree(source)
    return kept


def unpack_source(place: Place, kind: str) -> Path:
    """The folder to build in, with the objects of an interrupted build."""
    source = place.cache / "build" / f"mmcv-{pins()['mmcv']}-{kind}"
    if source.exists():
        return source
    release = f"mmcv-{pins()['mmcv']}"
    archive = place.cache / "sources" / f"{release}.tar.gz"
    if not archive.exists():
        options = ["--no-deps", "--no-binary", "mmcv", "--no-build-isolation"]
        options += ["-c", str(CONSTRAINTS), "--dest", str(archive.parent), "mmcv"]
        pip(place, "mmcv", "source of MMCV", "download", *options)
    source.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        # Early patch releases of 3.10 and 3.11 have no filters.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(archive) as packed:
            packed.extractall(folder, **safe)
        os.rename(Path(folder) / release, source)
    return source


def build_environment(place: Place, kind: str) -> dict[str, str]:
    """Variables for the compilers; -g0 makes the wheel 25 times smaller."""
    flags = f"-O1 -g0 {os.environ.get('CFLAGS', '')}".strip()
    env = {"CFLAGS": flags, "CXX": find_compiler(), "MMCV_WITH_OPS": "1"}
    env["MAX_JOBS"] = os.environ.get("MAX_JOBS", str(parallel_jobs()))
    if kind.endswith("cpu"):
        return {**env, "FORCE_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}
    # PyTorch's own wheels carry headers that some CUDA toolkits leave out.
    headers = place.venv.glob("lib/python*/site-packages/nvidia/cu*/include")
    paths = [*map(str, headers), os.environ.get("CPATH", "")]
    home = os.path.dirname(os.path.dirname(os.path.realpath(find_nvcc())))
    env["CPATH"] = os.pathsep.join(filter(None, paths))
    return {**env, "FORCE_CUDA": "1", "CUDA_HOME": os.environ.get("CUDA_HOME", home)}


def parallel_jobs() -> int:
    """As many compilers as there are cores, but each needs about 1.5 GB of memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), int(memory / 1.5e9)))


def compile_note(line: str, source: Path) -> str:
    """Objects compiled of all; Ninja counts only those it still has to do."""
    found = re.match(r"\s*\[(\d+)/(\d+)\]", line)
    if not found:
        return ""
    step, left = int(found.group(1)), int(found.group(2))
    total = left
    for plan in source.glob("build/temp*/build.ninja"):
        rules = re.findall(r"^build .*: *(?:cuda_)?compile", plan.read_text(), re.M)
        total = max(left, len(rules))
    return f"object {total - left + step} of {total}"


def explain_build(output: str) -> str:
    """One line with the cure for what the compilers printed before they failed."""
    if re.search(DISK_FULL, output):
        return f"the disk is full: free some space, then {RESUMES}"
    if re.search(r"Killed signal terminated|out of memory|bad_alloc", output):
        return "the compiler ran out of memory: set MAX_JOBS=1, then run this again"
    first = re.search(r".*\berror\b.*", output)
    return f"MMCV does not compile: {first.group(0).strip() if first else 'no message'}"


# ---- the command --------------------------------------------------------------------


@contextlib.contextmanager
def alone(place: Place) -> Iterator[None]:
    """Keep every other set-up with this cache waiting."""
    import fcntl

    place.cache.mkdir(parents=True, exist_ok=True)
    with (place.cache / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another set-up ({lock.name} is locked)", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        yield


def set_up(place: Place) -> None:
    """Do all that is still to do."""
    with alone(place):
        names = [step.name for step, _ in pending(place, STEPS)]
        if names:
            print(f"setting up {place.venv}: {', '.join(names)}", flush=True)
            check_machine(place, names)
            run_steps(place, STEPS)


def default_cache() -> Path:
    """The cache folder, shared by all checkouts."""
    chosen = os.environ.get("CLUENET_MM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "cluenet_mm"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--venv",
        type=Path,
        default=ROOT / ".venv",
        help="the virtual environment (default: .venv of the checkout)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=default_cache(),
        help="built wheels, logs, unfinished builds (default: $CLUENET_MM_CACHE, or "
        "cluenet_mm in $XDG_CACHE_HOME or ~/.cache)",
    )
    parser.add_argument(
        "--again", action="store_true", help="do every step again, as a repair"
    )
    parser.add_argument(
        "--check", action="store_true", help="only tell what is to do; status 1 if any"
    )
    return parser.parse_args()


def interrupt(*_: object) -> None:
    """Treat a request to end as Ctrl-C, so that children are ended too."""
    raise KeyboardInterrupt


def main() -> int:
    """Set up what is not set up yet."""
    options = parse_arguments()
    place = Place(
        Path(os.path.abspath(options.venv)), Path(os.path.abspath(options.cache_dir))
    )
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, interrupt)
    try:
        if options.again:
            place.state.unlink(missing_ok=True)
        todo = [step.name for step, _ in pending(place, STEPS)]
        if options.check:
            print(f"to do: {', '.join(todo)}" if todo else "up to date")
            return 1 if todo else 0
        if todo:
            set_up(place)
        print(f"environment {place.venv} is ready", flush=True)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"set-up interrupted: {RESUMES}", file=sys.stderr)
        return 130
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "free some space" if full else "check the folder and its permissions"
        what = f"{error.strerror}: {error.filename or place.venv}"
        print(f"set-up failed: {what}: {cure}, then {RESUMES}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
