#!/usr/bin/env python3
"""Set up the tested environment: a virtual environment with everything in it.

Standard library only, run by the system's Python. A file in the environment tells what
it was set up from, so that the next run starts at once; each step does only what is
missing, so that an interrupted set-up continues.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

# Down to here, and in its syntax all over, this file is valid for Python 3.6.
if not (3, 10) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        f"set-up failed: {sys.executable} is Python {sys.version.split()[0]}: install "
        "Python 3.10, 3.11 or 3.12, or name it (make: PYTHON=python3.11)"
    )

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
NAMES = ("runtime", "mminstall", "tests", "optional")
LISTS = [CONSTRAINTS.with_name(f"{name}.txt") for name in NAMES]
COMPILER = ROOT / "tools" / "dev" / "cxx_with_torch.sh"
DOCTOR = ROOT / "tools" / "doctor.py"
AGAIN = "run the same command again: it continues where it stopped"
TRY_PIP = "import pip, sys; assert (3, 10) <= sys.version_info[:2] <= (3, 12)"

# Says what a wheel of the operators must be made for: torch, Python and device.
ASK_TORCH = """
import os, subprocess, sys, torch
from torch.utils.cpp_extension import CUDA_HOME
seen = torch.cuda.is_available()
arch = "%d.%d" % torch.cuda.get_device_capability() if seen else "cpu"
if seen or os.environ.get("FORCE_CUDA") == "1":
    arch = os.environ.get("TORCH_CUDA_ARCH_LIST") or arch
release = subprocess.getoutput(f"'{CUDA_HOME}/bin/nvcc' --version")
fits = "release %s." % (torch.version.cuda or "none").split(".")[0] in release
print(torch.__version__, "cp%d%d" % sys.version_info[:2], arch if fits else "cpu")
"""


class SetupError(Exception):
    """What went wrong and what to do, in one line."""


class Setup:
    """One virtual environment and the cache of compiled wheels."""

    def __init__(self, venv: Path, cache: Path) -> None:
        self.venv, self.cache, self.log = venv, cache, cache / "setup.log"
        self.python, self.ready = venv / "bin" / "python", venv / ".cluenet_mm"
        self.pip = (str(self.python), "-m", "pip")
        self.install = (*self.pip, "install", "-c", str(CONSTRAINTS))

    def key(self) -> str:
        """A hash of all that the environment is set up from."""
        files = (Path(__file__), COMPILER, CONSTRAINTS, *LISTS, ROOT / "setup.py")
        wishes = [os.environ.get(n) for n in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST")]
        gpu = any(Path("/dev").glob("nvidia[0-9]*"))
        return digest(self.venv, ROOT, wishes, gpu, *(f.read_text() for f in files))

    def is_ready(self) -> bool:
        """Tell whether nothing is to do."""
        there = self.ready.exists() and self.python.exists()
        return there and self.ready.read_text() == self.key()

    def run(self) -> None:
        """Do all that is to do."""
        self.check()
        self.cache.mkdir(parents=True, exist_ok=True)
        lock(self.cache / "setup.lock")
        if self.is_ready():
            return  # by the set-up that this one waited for
        self.make_venv()
        self.install_packages()
        self.install_operators()
        options = ("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        self.step("cluenet_mm, editable", *self.pip, "install", *options)
        self.step("check of the imports", str(self.python), str(DOCTOR))
        self.ready.write_text(self.key())

    def check(self) -> None:
        """Raise SetupError if it cannot work, before anything is written."""
        foreign = self.venv.exists() and not self.ready.exists()
        if foreign and any(self.venv.iterdir()) and self.fault(TRY_PIP):
            raise SetupError(
                f"{self.venv} is no virtual environment of Python 3.10 to 3.12: remove "
                "it or name another (VENV=)"
            )
        if not any(self.venv.glob("lib/python*/site-packages/torch")):
            check_disk(self.venv, 12)  # 6 GB, and as much in downloads on the way
            check_disk(Path(tempfile.gettempdir()), 4)
        if not any(self.cache.glob("wheels/*/*.whl")):
            find_compiler()

    def make_venv(self) -> None:
        """Create the virtual environment, or repair a half-made one."""
        self.venv.mkdir(parents=True, exist_ok=True)
        self.ready.write_text("")
        if self.fault(TRY_PIP):
            self.step("folder", sys.executable, "-m", "venv", str(self.venv))
        for info in self.venv.glob("lib/python*/site-packages/*.dist-info"):
            # pip writes RECORD last, but takes a package for installed without it.
            if not (info / "RECORD").exists():
                shutil.rmtree(info)

    def install_packages(self) -> None:
        """Install everything but MMCV, which must be compiled."""
        text = "\n".join(path.read_text() for path in LISTS)
        names = re.findall(r"(?m)^(?!mmcv\b)[^#\n]*[^#\s]", text)
        self.step("pip", *self.install, "pip", "setuptools", "wheel", "ninja")
        self.step("PyTorch, OpenMMLab and what they need", *self.install, *names)
        if "libGL" in self.fault("import cv2"):
            # A machine without a desktop. The headless OpenCV has the same files.
            over = ("--force-reinstall", "--no-deps", "opencv-python-headless")
            self.step("OpenCV without libGL", *self.install, *over)

    def install_operators(self) -> None:
        """Install MMCV with its operators, from a wheel compiled before if one fits."""
        torch, python, device = self.ask(ASK_TORCH).strip().split(maxsplit=2)
        env = {"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": device}
        if device == "cpu":
            env = {"FORCE_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}
        # -g0 makes the wheel 25 times smaller.
        env["CFLAGS"] = f"-O1 -g0 {os.environ.get('CFLAGS', '')}".strip()
        wheels = self.cache / "wheels" / wheel_kind(torch, python, env)
        wheel = next(wheels.glob("*.whl"), None) or self.compile(wheels, env)
        options = ("--no-deps", "--force-reinstall", str(wheel))
        self.step("MMCV", *self.pip, "install", *options)
        fault = self.fault("import mmcv._ext")
        if fault:
            wheel.unlink()
            raise SetupError(f"cannot load MMCV's operators ({fault}): {AGAIN}")

    def compile(self, wheels: Path, env: dict[str, str]) -> Path:
        """Compile MMCV's operators to a wheel in the folder ``wheels``."""
        wheels.mkdir(parents=True, exist_ok=True)
        # pip's own cache does not know which torch a wheel was compiled for.
        command = "wheel -v --no-cache-dir --no-deps --no-build-isolation --use-pep517"
        command += " --no-binary mmcv mmcv --wheel-dir"
        # PyTorch's own wheels carry headers that some CUDA toolkits leave out.
        headers = self.venv.glob("lib/python*/site-packages/nvidia/cu*/include")
        # A compiler needs about 1.5 GB of memory.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        jobs = max(1, min(len(os.sched_getaffinity(0)), int(memory / 1.5e9)))
        with tempfile.TemporaryDirectory() as build:
            Path(build, "c++").symlink_to(COMPILER)
            self.step(
                "MMCV's operators, compiled",
                *(*self.pip, *command.split(), build, "-c", str(CONSTRAINTS)),
                **env,
                CXX=f"{build}/c++",
                REAL_CXX=find_compiler(),
                CPATH=":".join([*map(str, headers), os.environ.get("CPATH", ".")]),
                MAX_JOBS=os.environ.get("MAX_JOBS", str(jobs)),
            )
            (wheel,) = Path(build).glob("*.whl")
            # Renamed when it is complete, so that no half of a wheel is kept.
            draft = Path(shutil.copy(wheel, wheels / "draft"))
        return draft.rename(wheels / wheel.name)

    def ask(self, code: str) -> str:
        """Output of a few lines of Python in the virtual environment."""
        command = [str(self.python), "-I", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise SetupError((result.stderr.strip() or "no message").splitlines()[-1])
        return result.stdout

    def fault(self, code: str) -> str:
        """What these lines of Python say if they fail there, or an empty text."""
        try:
            self.ask(code)
        except (OSError, SetupError) as error:
            return str(error)
        return ""

    def step(self, title: str, *command: str, **env: str) -> None:
        """Run a command with its output in the log and its progress on the screen."""
        path = f"{self.venv / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        env = {**os.environ, **env, "PATH": path, "PYTHONPATH": "", "PYTHONHOME": ""}
        self.log.write_text(f"$ {shlex.join(command)}\n")
        with self.log.open("a") as log:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            # In a session of its own, so that an interrupt ends all that it started. It
            # inherits the lock: a next set-up waits for it even if this one is killed.
            own = {"start_new_session": True, "close_fds": False}
            child = subprocess.Popen(command, env=env, **pipes, **own)
        try:
            watch(child, self.log, title)
        except BaseException:
            for sign in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(child.pid, sign)
                    child.wait(10)
            raise
        if child.returncode:
            explain = [sys.executable, str(DOCTOR), "--explain", str(self.log)]
            fault = subprocess.check_output(explain, text=True).strip()
            raise SetupError(f"{fault} (all output: {self.log})")


def watch(child: subprocess.Popen, log: Path, title: str) -> None:
    """Show the last line of a command's log every ten seconds until it ends."""
    start, note = time.monotonic(), ""
    while note not in ("done", "failed"):
        try:
            note = "failed" if child.wait(10) else "done"
        except subprocess.TimeoutExpired:
            note = log.read_text(errors="replace").split("\n")[-2].strip()
        note = re.sub(r"^(\[\d+/\d+\]) .*", r"\1", note)  # Ninja's long commands
        line = f"{time.monotonic() - start:5.0f} s  {title}: {note}"
        print(line[: shutil.get_terminal_size().columns - 1], flush=True)


def check_disk(folder: Path, gigabytes: float) -> None:
    """Raise SetupError if a folder, there already or not, has not the room."""
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < gigabytes:
        raise SetupError(
            f"the disk of {place} has {free:.1f} GB free, the set-up needs {gigabytes} "
            "GB: free some, or use other disks (VENV= and TMPDIR)"
        )


def find_compiler() -> str:
    """The C++ compiler with its options; SetupError if it or Python.h is missing."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    found = [name for name in names if name and shutil.which(shlex.split(name)[0])]
    if found and header.exists():
        return found[0]
    lack = f"{header} (python3-dev)" if found else "C++ compiler, $CXX or c++ (g++)"
    raise SetupError(
        f"there is no {lack}: apt-get install it, to compile MMCV's operators"
    )


def wheel_kind(torch: str, python: str, env: dict[str, str]) -> str:
    """What a wheel of the operators is good for, as the name of a folder."""
    release = re.search(r"(?m)^mmcv==(.+)$", CONSTRAINTS.read_text()).group(1)
    device = "cuda" if env["FORCE_CUDA"] == "1" else "cpu"
    return f"mmcv{release}-torch{torch}-{python}-{device}-{digest(sorted(env.items()))}"


def digest(*parts: object) -> str:
    """A short hash."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def lock(path: Path) -> None:
    """Wait for any other set-up; freed when all that this process starts has ended."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another set-up ({path} is locked)", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def main() -> int:
    """Set up what is not set up yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--venv", default=ROOT / ".venv", help="default: .venv here")
    venv = Path(os.path.abspath(parser.parse_args().venv))
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = os.environ.get("CLUENET_MM_CACHE") or os.path.join(caches, "cluenet_mm")
    setup = Setup(venv, Path(os.path.abspath(cache)))
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    try:
        if not setup.is_ready():
            print(f"setting up {venv}", flush=True)
            setup.run()
        print(f"environment {venv} is ready")
        return 0
    except (SetupError, OSError) as error:
        print(f"set-up failed: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"set-up interrupted: {AGAIN}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
