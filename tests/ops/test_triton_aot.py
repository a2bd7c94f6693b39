"""The kernels as machine code for GPUs that need not be there.

A change that makes a kernel spill registers, overfill the shared memory or walk in more
instructions shows here, on any machine. docs/gpu.md has the whole table.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/dev/triton_aot.py"
# Bytes of shared memory that a block may take.
SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
# Instructions of the main loop at most, by architecture, a tenth above docs/gpu.md.
BOUNDS = {
    ("search", "bf16", 32, 200): (168, 155, 350),
    ("search", "bf16", 128, 200): (278, 185, 405),
    ("search", "bf16", 196, 200): (220, 180, 290),
    ("em_sums", "bf16", 32, 49): (540, 550, 940),
    ("em_sums", "bf16", 32, 250): (460, 485, 885),
    ("search", "fp32", 32, 200): (726, 725, 986),
    ("search tf32x3", "fp32", 32, 200): (750, 404, 605),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Rows of the table; by another process, as this one may interpret the kernels."""
    path = tmp_path_factory.mktemp("aot") / "kernels.json"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    words = [f"{n}:{d}:{c}:{m}" for n, d, c, m in BOUNDS]
    result = subprocess.run(
        [sys.executable, TOOL, "--json", path, "--case", *words],
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())["kernels"]
    keys = ("kernel", "dtype", "channels", "centers", "sm")
    return {tuple(row[key] for key in keys): row for row in rows}


@pytest.mark.parametrize("case", BOUNDS)
def test_no_kernel_spills_overfills_or_grows(case, kernels):
    for architecture, bound in zip(SHARED, BOUNDS[case], strict=True):
        row = kernels[(*case, architecture)]
        assert case[1] == "fp32" or row["stack"] == 0, row
        assert row["shared"] <= SHARED[architecture], row
        assert 0 < row["instructions"] <= bound, row


def test_16_bits_run_on_the_tensor_cores_and_exact_fp32_does_not(kernels):
    units = {80: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}
    for (name, dtype, *_, architecture), row in kernels.items():
        if (name, dtype) == ("search", "fp32"):
            assert not any("MMA" in unit for unit in row["multiplications"]), row
        elif dtype == "bf16":
            assert units[architecture] in row["multiplications"], row


# ---- the tool -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("triton_aot", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOOPS = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   HMMA.16816.F32 R4, R8, R10, R4 ;
        /*0020*/              @!P1 BRA 0x70 ;
        /*0030*/                   FMNMX R4, R4, R5, !PT ;
        /*0040*/               @P0 BRA 0x10 ;
        /*0050*/                   EXIT ;
        /*0060*/                   BRA 0x60;
        /*0070*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [R3], R2 ;
        /*0080*/              @!P1 BRA 0x70 ;
        /*0090*/                   BRA 0x30 ;
"""


def test_a_wait_behind_the_code_is_part_of_its_loop_and_no_loop(tool):
    body = ["HMMA", "BRA", "FMNMX", "BRA", "SYNCS", "BRA", "BRA"]
    assert tool.main_loop(LOOPS) == body
    assert tool.main_loop(LOOPS.replace("HMMA", "HADD2")) == []
    # The latch may have no condition, and the way out lie in front of it.
    turned = LOOPS.split("        /*0070*/")[0]
    turned = turned.replace("@P0 BRA 0x10", "BRA 0x10").replace("BRA 0x70", "BRA 0x50")
    assert tool.main_loop(turned) == ["HMMA", "BRA", "FMNMX", "BRA"]


def test_the_page_holds_the_results(tool):
    page = ROOT / "docs/gpu.md"
    text = page.read_text(encoding="utf-8")
    assert tool.filled(text, ROOT / "docs/results") == text
    assert "| search | fp16 | 196 |" in text
