"""The set-up and the doctor: each known fault ends in one clear line with its cure."""

import ast
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load("setup_env")
doctor = load("doctor")


def set_up(folder, *options, **env):
    """Run the set-up with everything it writes below ``folder``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "CXX"))}
    script = str(ROOT / "tools" / "setup_env.py")
    command = [sys.executable, script, "--venv", str(folder / "venv")]
    command += ["--cache-dir", str(folder / "cache"), *options]
    return subprocess.run(
        command, env={**kept, **env}, capture_output=True, encoding="utf-8", timeout=120
    )


def assert_one_line(result, *words):
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("set-up failed: ")
    for word in words:
        assert word in line


# ---- set-up: faults of the machine --------------------------------------------------


def test_setup_parses_on_old_python():
    source = (ROOT / "tools" / "setup_env.py").read_text(encoding="utf-8")
    assert ast.parse(source, feature_version=(3, 6)).body


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 13)])
def test_wrong_python(version):
    fault = setup_env.python_fault(version, "python3")
    assert "Python {}.{}".format(*version) in fault
    assert "install one of them" in fault


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 11), (3, 12, 9)])
def test_fit_python(version):
    assert setup_env.python_fault(version, "python3") == ""


def test_missing_compiler(tmp_path):
    result = set_up(tmp_path, PATH=str(tmp_path))
    assert_one_line(result, "no C++ compiler", "apt-get install g++")
    assert not (tmp_path / "venv").exists()


def test_broken_compiler(tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'error: no such standard'\nexit 1\n")
    broken.chmod(0o755)
    result = set_up(tmp_path, CXX=str(broken))
    assert_one_line(result, "cannot compile C++17", "error: no such standard")


def test_full_disk(tmp_path):
    with pytest.raises(setup_env.SetupError, match=r"needs 2\d{9}\.0 GB there: free"):
        setup_env.check_disk({tmp_path / "not" / "there": 1e9, tmp_path: 1e9})


def test_disk_that_suffices(tmp_path):
    setup_env.check_disk({tmp_path / "venv": 1e-6})
    place = setup_env.Place(tmp_path / "venv", tmp_path / "cache")
    needs = setup_env.disk_needs(place, [step.name for step in setup_env.STEPS])
    assert 10 < sum(needs.values()) < 15


def test_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "thesis.txt").touch()
    result = set_up(tmp_path)
    assert_one_line(result, "no virtual environment", "VENV=")
    assert [path.name for path in (tmp_path / "venv").iterdir()] == ["thesis.txt"]


def test_environment_of_another_python(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr\nversion = 3.9.2\n")
    assert_one_line(set_up(tmp_path), "Python 3.9", "remove")


def test_no_network(tmp_path):
    """Nothing listens on the port, so that pip's first request is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = set_up(
            tmp_path,
            PIP_CONFIG_FILE=os.devnull,
            PIP_INDEX_URL=f"http://127.0.0.1:{port}/simple",
            PIP_RETRIES="1",
        )
    if "no C++ compiler" in result.stderr:
        pytest.skip("no compiler")
    assert_one_line(result, "package index cannot be reached", "picks up", "torch.log")
    state = set_up(tmp_path, "--check")
    assert state.stdout == "to do: torch, mmcv, packages, imports, project\n"


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("OSError: [Errno 28] No space left on device", "free some space"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...: "
            "Failed to establish a new connection: [Errno -3] Temporary failure in "
            "name resolution')'\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            "check the network",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement torch\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            "offers no fit torch==2.11.0",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged"),
        ("ERROR: ResolutionImpossible: for help", "requirements/README.md"),
        ("ERROR: something never seen", "something never seen"),
    ],
)
def test_faults_of_pip(output, cure):
    explained = setup_env.explain_pip(output)
    assert cure in explained
    assert "\n" not in explained


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("x.cpp:1: fatal error: error writing: No space left on device", "free some"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "MAX_JOBS=1"),
        (
            "[1/2] c++\nx.cpp:3:1: error: expected ';'\nx.cpp:9: error: b",
            "expected ';'",
        ),
    ],
)
def test_faults_of_the_build(output, cure):
    assert cure in setup_env.explain_build(output)


# ---- set-up: what is done once ------------------------------------------------------


def make_steps(place, names, diary):
    """Steps that only write down that they ran; ``bad`` in the diary makes one fail."""

    def run(name):
        if name in diary["bad"]:
            raise setup_env.SetupError(name)
        diary["ran"].append(name)

    return tuple(
        setup_env.Step(
            name,
            lambda _, name=name: run(name),
            lambda _, name=name: diary["depends"].get(name, ""),
        )
        for name in names
    )


@pytest.fixture
def place(tmp_path):
    place = setup_env.Place(tmp_path / "venv", tmp_path / "cache")
    Path(place.python).parent.mkdir(parents=True)
    Path(place.python).touch()
    return place


def test_steps_run_once_and_pick_up_after_a_failure(place):
    diary = {"ran": [], "bad": {"b"}, "depends": {}}
    steps = make_steps(place, "abc", diary)
    with pytest.raises(setup_env.SetupError):
        setup_env.run_steps(place, steps)
    assert diary["ran"] == ["a"]
    diary["bad"].clear()
    setup_env.run_steps(place, steps)
    setup_env.run_steps(place, steps)
    assert diary["ran"] == ["a", "b", "c"]


def test_a_change_repeats_its_step_and_all_after(place):
    diary = {"ran": [], "bad": set(), "depends": {}}
    steps = make_steps(place, "abc", diary)
    setup_env.run_steps(place, steps)
    diary["depends"]["b"] = "another checkout"
    setup_env.run_steps(place, steps)
    assert diary["ran"] == ["a", "b", "c", "b", "c"]


def test_a_vanished_interpreter_repeats_all(place):
    diary = {"ran": [], "bad": set(), "depends": {}}
    steps = make_steps(place, "ab", diary)
    setup_env.run_steps(place, steps)
    os.remove(place.python)
    assert [step.name for step, _ in setup_env.pending(place, steps)] == ["a", "b"]


def test_check_changes_nothing_and_is_quick(tmp_path):
    start = time.monotonic()
    result = set_up(tmp_path, "--check")
    assert time.monotonic() - start < 2
    assert result.returncode == 1
    assert result.stdout.startswith("to do: venv, torch, mmcv")
    assert list(tmp_path.iterdir()) == []


def test_half_installed_packages_are_forgotten(place):
    site = place.venv / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info"):
        (site / name).mkdir(parents=True)
    (site / "whole-1.0.dist-info" / "RECORD").touch()
    setup_env.drop_half_installed(place)
    assert [path.name for path in site.iterdir()] == ["whole-1.0.dist-info"]


def test_two_setups_do_not_work_at_the_same_time(tmp_path):
    place = setup_env.Place(tmp_path / "venv", tmp_path / "cache")
    script = str(ROOT / "tools" / "setup_env.py")
    command = [sys.executable, script, "--venv", str(place.venv)]
    command += ["--cache-dir", str(place.cache)]
    env = {**os.environ, "PATH": str(tmp_path), "CXX": ""}
    with setup_env.alone(place):
        other = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert "waiting for another set-up" in other.stdout.readline()
        assert other.poll() is None
    _, error = other.communicate(timeout=60)
    assert "no C++ compiler" in error


def test_interruption_ends_all_children(tmp_path):
    code = f"import subprocess; subprocess.run(['{sys.executable}', '-c', "
    code += f"'import os, time; print(os.getpid(), flush=True); time.sleep({300})'])"
    log, seen = tmp_path / "log", []

    def note(line):
        if line.isdigit():
            seen.append(int(line))
            raise KeyboardInterrupt
        return ""

    with pytest.raises(KeyboardInterrupt):
        setup_env.run([sys.executable, "-c", code], log, "sleeper", note)
    for _ in range(50):
        if not Path(f"/proc/{seen[0]}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{seen[0]}").exists()


def test_compile_progress_counts_what_an_earlier_build_did(tmp_path):
    plan = tmp_path / "build" / "temp.linux" / "build.ninja"
    plan.parent.mkdir(parents=True)
    plan.write_text("rule compile\n" + "build a.o: compile a.cpp\n" * 77)
    note = setup_env.compile_note
    assert note("  [1/77] c++ -c a.cpp", tmp_path) == "object 1 of 77"
    assert note("[5/40] c++ -c b.cpp", tmp_path) == "object 42 of 77"
    assert note("copying mmcv/version.py", tmp_path) == ""


# ---- doctor -------------------------------------------------------------------------


@pytest.fixture
def healthy():
    versions = dict.fromkeys(doctor.LIBRARIES, "1.0.0")
    versions |= {"torch": "2.11.0", "numpy": "2.2.6", "mmcv": "2.1.0", "mmcv._ext": ""}
    versions |= {"pkg_resources": "79.0.1", "torchvision": "0.26.0"}
    return {
        "python": "3.11.7",
        "executable": "py",
        "venv": "/env",
        "versions": versions,
        "imports": dict.fromkeys(doctor.LIBRARIES, ""),
        "mmcv_below": "2.2.0",
        "compiler": "c++ 12",
        "gpus": [],
        "cuda": {"built": "13.0", "devices": []},
        "pins": {"torch": "2.11.0", "torchvision": "0.26.0", "numpy": "2.2.6"},
    }


def test_doctor_finds_nothing_in_a_healthy_environment(healthy):
    assert doctor.diagnose(healthy) == []
    assert "CUDA devices   none seen" in doctor.table(healthy)


def change(**changes):
    def apply(facts):
        for name, value in changes.items():
            if isinstance(value, dict):
                facts[name] |= value
            else:
                facts[name] = value

    return apply


NMS = "RuntimeError: operator torchvision::nms does not exist"
REPAIR = "python3 tools/setup_env.py --venv /env --again"


@pytest.mark.parametrize(
    ("fault", "problem", "cure"),
    [
        (change(python="3.9.1"), "Python 3.9.1", "make env"),
        (
            change(imports={"torchvision": NMS, "mmpretrain": NMS}),
            "torchvision 0.26.0 is not made for torch 2.11.0",
            "py -m pip install torch==2.11.0 torchvision==0.26.0",
        ),
        (
            change(imports={"mmcv._ext": "ModuleNotFoundError: No module named 'x'"}),
            "without its compiled operators",
            REPAIR,
        ),
        (
            change(imports={"mmcv._ext": "ImportError: undefined symbol: _ZN3c10"}),
            "built for another torch",
            REPAIR,
        ),
        (
            change(versions={"mmcv": "2.2.0"}, imports={"mmdet": "AssertionError: MM"}),
            "mmcv 2.2.0 is too new for mmdet",
            REPAIR,
        ),
        (
            change(versions={"mmcv": "2.1.0 and 2.2.0 (mmcv-lite)"}),
            "mmcv is installed twice: 2.1.0 and 2.2.0 (mmcv-lite)",
            REPAIR,
        ),
        (
            change(
                versions={"pkg_resources": "82.0.0"},
                imports={"pkg_resources": "ModuleNotFoundError: No module named"},
            ),
            "setuptools 82.0.0 is too new",
            "py -m pip install setuptools",
        ),
        (
            change(imports={"cv2": "ImportError: libGL.so.1: cannot open shared"}),
            "OpenCV finds no libGL.so.1",
            "opencv-python-headless",
        ),
        (
            change(gpus=["NVIDIA H100"]),
            "NVIDIA H100 is there, but torch, built for CUDA 13.0, cannot use it",
            "driver",
        ),
        (
            change(gpus=["NVIDIA H100"], cuda={"built": ""}),
            "torch 2.11.0 is CPU-only",
            "py -m pip install --force-reinstall torch==2.11.0",
        ),
        (
            change(imports={"mmseg": "ModuleNotFoundError: No module named 'ftfy'"}),
            "mmseg does not import (ModuleNotFoundError: No module named 'ftfy')",
            REPAIR,
        ),
    ],
)
def test_doctor_names_one_fault_and_its_cure(healthy, fault, problem, cure):
    fault(healthy)
    (finding,) = doctor.diagnose(healthy)
    assert finding.level == "fault"
    assert problem in finding.problem
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("name", "version"), [("numpy", "2.4.0"), ("pkg_resources", "80.9.0")]
)
def test_doctor_warns(healthy, name, version):
    healthy["versions"][name] = version
    (finding,) = doctor.diagnose(healthy)
    assert finding.level == "warning"
    assert version in finding.problem


def test_doctor_does_not_ask_for_triton_or_a_gpu(healthy):
    healthy["imports"]["triton"] = "ModuleNotFoundError: No module named 'triton'"
    healthy["versions"]["triton"] = ""
    assert doctor.diagnose(healthy) == []


def test_a_crashing_import_does_not_hide_the_next(tmp_path, monkeypatch):
    (tmp_path / "crashes.py").write_text("import os; os.abort()")
    (tmp_path / "fails.py").write_text("raise ValueError('no\\nsecond line')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tried = doctor.try_imports(["json", "crashes", "fails", "csv"])
    assert "ends Python" in tried.pop("crashes")
    assert tried == {"json": "", "fails": "ValueError: no", "csv": ""}


def test_doctor_runs_here():
    """The environment that runs the tests is sound, or the doctor says what is not."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "doctor.py")],
        capture_output=True,
        encoding="utf-8",
    )
    assert result.stderr == ""
    assert result.returncode == 0, result.stdout
    assert "mmcv._ext      yes" in result.stdout
    assert result.stdout.endswith("no fault found\n")


# ---- make ---------------------------------------------------------------------------


def test_make_passes_over_a_python_that_does_not_run(tmp_path):
    """A version manager's shim exists for versions that are not switched on."""
    for name in ("python3.12", "python3.11", "python3.10"):
        (tmp_path / name).write_text("#!/bin/sh\necho not switched on\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
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
