"""The script for a GPU, as far as a CPU can run it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_script_runs_and_writes_what_it_saw(tmp_path):
    words = ["--device", "cpu", "--quick", "--parts", "correctness", "profile"]
    path = tmp_path / "check.json"
    result = subprocess.run(
        [sys.executable, ROOT / "tools/dev/gpu_check.py", "--json", path, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(path.read_text())
    assert found["impl"] == ("triton" if find_spec("triton") else "auto")
    assert found["device"]
    rows = found["correctness"]["assign"]
    assert [row["dtype"] for row in rows] == ["float16", "bfloat16", "float32"]
    assert all(row["agreement"] > 0.9 for row in rows)
    assert rows[-1]["largest_gap"] < 1e-6
    assert max(rows[-1]["errors"]) < 1e-5
    assert len(found["correctness"]["em_step"]) == 3
    assert found["profile"]["kernels"][0]["us"] > 0
