"""The set-up and the doctor: a known problem ends in one clear line with its fix."""

import ast
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tools" / "dev" / "setup_env.py"
DOCTOR = ROOT / "tools" / "doctor.py"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load(SCRIPT)
doctor = load(DOCTOR)


def start(folder, **env):
    """Start a set-up that writes below ``folder`` only."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "CXX"))}
    kept.update(CLUENET_MM_CACHE=str(folder / "cache"), PYTHONUNBUFFERED="1")
    command = [sys.executable, str(SCRIPT), "--venv", str(folder / "venv")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env={**kept, **env}, text=True, **pipes)


def assert_one_line(process, *words):
    (line,) = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 1
    assert line.startswith("set-up failed: ")
    for word in words:
        assert word in line


@pytest.fixture
def setup(tmp_path):
    """A set-up whose interpreter is that of the tests."""
    setup = setup_env.Setup(tmp_path / "venv", tmp_path / "cache")
    setup.python.parent.mkdir(parents=True)
    setup.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    setup.python.chmod(0o755)
    setup.cache.mkdir()
    return setup


# ---- set-up: what is wrong with the machine -----------------------------------------


def test_an_old_python_is_told_so():
    """A Python that could not even parse the file would not come to say it."""
    source = SCRIPT.read_text(encoding="utf-8")
    assert ast.parse(source, feature_version=(3, 6)).body
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(SCRIPT)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(r"set-up failed: .* install Python 3\.10.*\n", result.stderr)


def test_missing_compiler(tmp_path):
    assert_one_line(start(tmp_path, PATH=str(tmp_path)), "no C++ compiler", "g++")
    assert not (tmp_path / "venv").exists()


def test_full_disk(tmp_path):
    with pytest.raises(setup_env.SetupError, match=r"GB free, the set-up needs 1e\+99"):
        setup_env.check_disk(tmp_path / "not" / "there", 1e99)
    setup_env.check_disk(tmp_path / "venv", 1e-6)


def test_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "thesis.txt").touch()
    assert_one_line(start(tmp_path), "no virtual environment", "VENV=")
    assert [path.name for path in (tmp_path / "venv").iterdir()] == ["thesis.txt"]


def test_no_network_and_a_second_try(tmp_path):
    """Nothing listens on the port, so that pip's first request is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        env = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{taken.getsockname()[1]}/simple",
            "PIP_RETRIES": "1",
        }
        for _ in range(2):
            said = ("cannot reach the package index", "continues", "setup.log")
            assert_one_line(start(tmp_path, **env), *said)


# ---- set-up: what is done once ------------------------------------------------------


def test_a_second_run_does_nothing_until_something_changes(
    setup, monkeypatch, tmp_path
):
    setup.ready.write_text(setup.key())
    process = start(tmp_path)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == (f"environment {setup.venv} is ready\n", "")
    monkeypatch.setattr(setup_env, "CONSTRAINTS", ROOT / "setup.py")
    assert not setup.is_ready()
    monkeypatch.undo()
    setup.python.unlink()
    assert not setup.is_ready()


def test_a_failed_step_leaves_the_environment_unfinished(setup, monkeypatch):
    monkeypatch.setattr(setup, "check", lambda: None)
    monkeypatch.setattr(
        setup, "install", (sys.executable, "-c", "print('ERROR: x'); 1/0")
    )
    with pytest.raises(setup_env.SetupError, match="ZeroDivisionError"):
        setup.run()
    assert not setup.is_ready()


def test_half_installed_packages_are_installed_again(setup):
    site = setup.venv / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info"):
        (site / name).mkdir(parents=True)
    (site / "whole-1.0.dist-info" / "RECORD").touch()
    setup.make_venv()
    assert [path.name for path in site.iterdir()] == ["whole-1.0.dist-info"]


def test_a_wheel_is_used_for_the_same_torch_python_and_flags_alone():
    env = {"FORCE_CUDA": "0", "CFLAGS": "-O1"}
    kinds = [
        setup_env.wheel_kind("2.11.0", "cp311", env),
        setup_env.wheel_kind("2.12.0", "cp311", env),
        setup_env.wheel_kind("2.11.0", "cp312", env),
        setup_env.wheel_kind("2.11.0", "cp311", {**env, "CFLAGS": "-O3"}),
        setup_env.wheel_kind("2.11.0", "cp311", {**env, "FORCE_CUDA": "1"}),
    ]
    assert kinds[0] == setup_env.wheel_kind("2.11.0", "cp311", dict(env))
    assert len(set(kinds)) == len(kinds)


def test_an_mmcv_without_operators_is_refused(setup, monkeypatch):
    """As pip builds one where torch cannot be imported; it must not be kept."""
    wheels = setup.cache / "wheels" / "kind"
    wheels.mkdir(parents=True)
    (wheels / "mmcv-2.1.0-py3-none-any.whl").touch()
    monkeypatch.setattr(setup_env, "wheel_kind", lambda *_: "kind")
    monkeypatch.setattr(setup, "step", lambda *_: None)
    ask = setup.ask
    monkeypatch.setattr(setup, "ask", lambda code: ask(code.replace("._ext", "._no")))
    with pytest.raises(setup_env.SetupError, match=r"cannot load .*mmcv\._no'"):
        setup.install_operators()
    assert list(wheels.iterdir()) == []


def test_two_setups_do_not_work_at_the_same_time(tmp_path):
    """The second waits for the lock, which the first leaves to what it started."""
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "setup.lock"
    code = "import pathlib, runpy, sys; lock = runpy.run_path(sys.argv[1])['lock']; "
    code += "lock(pathlib.Path(sys.argv[2])); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(SCRIPT), str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    first = subprocess.Popen(command, text=True, **pipes)
    first.stdout.readline()
    second = start(tmp_path)
    assert second.stdout.readline().startswith("setting up")
    assert second.stdout.readline().startswith("waiting for another set-up")
    assert not (tmp_path / "venv").exists()
    second.terminate()
    assert "interrupted" in second.communicate(timeout=60)[1]
    first.communicate("\n")


def test_an_interrupt_ends_all_that_was_started(setup):
    """The command and its child, which writes its number into the log."""
    code = "import subprocess; subprocess.run(['sh', '-c', 'echo $$; sleep 300'])"
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    with pytest.raises(KeyboardInterrupt):
        setup.step("sleeper", sys.executable, "-c", code)
    number = setup.log.read_text().splitlines()[1]
    status = Path("/proc", number, "stat")
    # The signal was sent; a busy machine takes a moment to deliver it.
    deadline = time.monotonic() + 30
    while status.exists() and " Z " not in status.read_text():
        assert time.monotonic() < deadline, "the child runs on"
        time.sleep(0.1)


# ---- doctor -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "problem", "fix"),
    [
        (
            "torchvision: RuntimeError: operator torchvision::nms does not exist",
            "torchvision was made for another torch",
            "pip install -c requirements/constraints.txt",
        ),
        (
            "mmdet: ModuleNotFoundError: No module named 'mmcv._ext'",
            "without its operators",
            "make env",
        ),
        (
            "mmcv._ext: ImportError: /x/mmcv/_ext.so: undefined symbol: _ZN3c10",
            "compiled for another torch",
            "make env",
        ),
        (
            "mmdet: AssertionError: MMCV==2.2.0 is used but incompatible. Please",
            "MMCV 2.2.0 is too new",
            "mmcv<2.2.0",
        ),
        (
            "mmengine: ModuleNotFoundError: No module named 'pkg_resources'",
            "setuptools dropped",
            "setuptools<80",
        ),
        (
            "mmseg: ModuleNotFoundError: No module named 'ftfy'",
            "MMSegmentation imports ftfy",
            "pip install ftfy regex",
        ),
        (
            "cv2: ImportError: libGL.so.1: cannot open shared object file: No such",
            "needs libGL.so.1 of a desktop",
            "opencv-python-headless",
        ),
        ("GPU unused: 2.11.0+cpu", "this torch is built for CPUs", "CUDA build"),
        ("GPU unused: 2.11.0+cu130", "torch 2.11.0+cu130 cannot use it", "driver"),
        ("mmpretrain: ImportError: strange", "ImportError: strange", "make env"),
        (
            "OSError: [Errno 28] No space left on device",
            "the disk is full",
            "free some space",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...: "
            "Failed to establish a new connection: [Errno -3] Temporary failure in "
            "name resolution')'\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            "cannot reach the package index",
            "check the network",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement torch\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            "the package index has no torch==2.11.0",
            "glibc",
        ),
        (
            "c++: fatal error: Killed signal terminated program cc1plus",
            "out of memory",
            "MAX_JOBS=1",
        ),
        (
            "[1/2] c++ -Werror\nx.cpp:3:1: error: expected ';'\nx.cpp:9: error: b\n"
            "subprocess.CalledProcessError: Command '['ninja']' failed",
            "x.cpp:3:1: error: expected ';'",
            "troubleshooting",
        ),
        ("nothing known\n", "nothing known", "troubleshooting"),
    ],
)
def test_a_known_problem_gets_its_fix_in_one_line(output, problem, fix):
    explained = doctor.explain(output)
    assert problem in explained
    assert fix in explained
    assert "\n" not in explained


def test_a_crashing_import_does_not_hide_the_next(tmp_path, monkeypatch):
    (tmp_path / "crashes.py").write_text("import os; os.abort()")
    (tmp_path / "fails.py").write_text("raise ValueError('no\\nsecond line')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tried = doctor.try_imports(("json", "crashes", "fails", "csv"))
    assert "ends Python" in tried.pop("crashes")
    assert tried == {"json": "", "fails": "ValueError: no", "csv": ""}


def test_the_doctor_sees_what_is_wrong_here(tmp_path):
    """A broken library, one installed twice and a release that does not fit."""
    (tmp_path / "mmseg.py").write_text("import ftfy_that_is_not_there")
    for name, version, top in (("mmcv-lite", "2.1.0", "mmcv"), ("numpy", "2.9", "")):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(top)
    command = [sys.executable, str(DOCTOR)]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "fault: ftfy_that_is_not_there is not installed: " in result.stdout
    assert (
        "fault: mmcv is installed twice (mmcv 2.1.0, mmcv-lite 2.1.0)" in result.stdout
    )
    assert "warning: numpy 2.9 does not fit (Triton's interpreter" in result.stdout
    assert result.stdout.count("\nfault: ") == 2
    assert re.search(r"(?m)^mmcv\._ext +imports$", result.stdout)


# ---- make ---------------------------------------------------------------------------


def test_make_passes_over_a_python_that_does_not_run(tmp_path):
    """A version manager's shim exists for versions that are not switched on."""
    for name in ("python3.12", "python3.11", "python3.10"):
        (tmp_path / name).write_text("#!/bin/sh\necho not switched on\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    # Not what the make that runs these tests was told.
    told = ("PYTHON", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
    env = {name: value for name, value in os.environ.items() if name not in told}
    result = subprocess.run(
        [shutil.which("make"), "--no-print-directory", "-s", "python"],
        cwd=ROOT,
        env={**env, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        encoding="utf-8",
    )
    assert result.stdout == "python3\n"
