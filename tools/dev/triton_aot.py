"""What the Triton kernels become on GPUs, from a machine that needs none.

Every kernel is launched as the package launches it, on tensors of the CPU; in the place
of the launch stands a compilation for each architecture. Read off its machine code are
registers, bytes of stack (spills), shared memory, and the instructions of the main
loop, which runs once for every tile: a tile of the search is a block of points by a
block of centers (by a slice of the channels where those are too many to hold), a tile
of the EM step a block of points by all centers.

    python tools/dev/triton_aot.py                       # a table
    python tools/dev/triton_aot.py --json docs/results/triton_aot.json
    python tools/dev/triton_aot.py --page docs/gpu.md    # the results into its table
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.runtime.driver import driver

from cluenet_mm.guard import run_tool
from cluenet_mm.ops.assign.triton import search

ARCHITECTURES = (80, 90, 100)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", re.MULTILINE)
MULTIPLY = {"HMMA", "HGMMA", "UTCHMMA", "UTCQMMA", "FFMA", "FFMA2"}
COLUMNS = "{:<18}{:>6}{:>10}{:>9}{:>5}{:>11}{:>7}{:>8}{:>14}"


class _Target:
    """The part of Triton's driver that compiling asks for."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return self.architecture  # a cache of its own for every architecture

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(architecture: int) -> Iterator[list[CompiledKernel]]:
    """Compile instead of launching; the list receives what was compiled."""
    kernels = []
    target = _Target(architecture)

    def instead(*, fn, compile: dict, **_) -> bool:
        source = ASTSource(
            fn.jit_function,
            compile["signature"],
            compile["constants"],
            compile["configs"][0],
        )
        options = {key: compile[key] for key in ("num_warps", "num_stages")}
        kernels.append(
            triton.compile(source, target=target.get_current_target(), options=options)
        )
        return True  # nothing is left to launch

    hook = knobs.runtime.jit_cache_hook
    driver.set_active(target)
    knobs.runtime.jit_cache_hook = instead
    try:
        yield kernels
    finally:
        knobs.runtime.jit_cache_hook = hook


def describe(kernel: CompiledKernel) -> dict:
    """Resources of a kernel and the instructions of its longest loop."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run(
                [CUOBJDUMP, option, file.name],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for option in ("-res-usage", "-sass")
        )
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    loop = main_loop(code)
    return {
        "registers": int(registers),
        "stack": int(stack),
        "shared": kernel.metadata.shared,
        "instructions": len(loop),
        "multiplications": {x: n for x, n in Counter(loop).items() if x in MULTIPLY},
    }


# ---- machine code --------------------------------------------------------------------


def main_loop(code: str) -> list[str]:
    """Names of the instructions of the longest loop that multiplies."""
    lines = [(int(at, 16), text) for at, text in INSTRUCTION.findall(code)]
    loops = (
        [name(text) for start, stop in loop for _, text in lines[start:stop]]
        for loop in natural_loops(lines)
    )
    return max((x for x in loops if MULTIPLY & set(x)), key=len, default=[])


def natural_loops(lines: list[tuple[int, str]]) -> Iterator[list[tuple[int, int]]]:
    """Every loop as the ranges of lines of its blocks.

    A jump backward is no loop where a wait that lies behind the code returns by it; it
    is one where its target dominates it, that is, lies on every way to it.
    """
    places = {at: i for i, (at, _) in enumerate(lines)}
    targets = {}
    for i, (_, text) in enumerate(lines):
        if jump := re.search(r"\bBRA\b.*?\b0x([0-9a-f]+)", text):
            targets[i] = places[int(jump[1], 16)]
    ends = {i for i, (_, text) in enumerate(lines) if text == "EXIT"}
    starts = sorted({0, *targets.values(), *(i + 1 for i in {*targets, *ends})})
    blocks = [pair for pair in pairwise([*starts, len(lines)]) if pair[0] < pair[1]]
    number = {start: n for n, (start, _) in enumerate(blocks)}
    after = []
    for _, stop in blocks:
        following = set()
        always = stop - 1 in ends or re.match(r"BRA 0x", lines[stop - 1][1])
        if not always and stop in number:
            following.add(number[stop])
        if stop - 1 in targets:
            following.add(number[targets[stop - 1]])
        after.append(following)
    before = [{m for m, x in enumerate(after) if n in x} for n in range(len(blocks))]
    everything = set(range(len(blocks)))
    dominators = [{0}, *(everything for _ in blocks[1:])]
    changed = True
    while changed:
        changed = False
        for n in range(1, len(blocks)):
            ways = [dominators[m] for m in before[n]]
            found = {n} | (set.intersection(*ways) if ways else set())
            changed |= found != dominators[n]
            dominators[n] = found
    for n, following in enumerate(after):
        for head in following & dominators[n]:
            loop, ways = {head}, [n]
            while ways:
                if (m := ways.pop()) not in loop:
                    loop.add(m)
                    ways += before[m]
            yield [blocks[m] for m in sorted(loop)]


def name(instruction: str) -> str:
    """``HGMMA`` of ``@P0 HGMMA.64x64x16.F32 R24, ...``."""
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0].split(".")[0]


# ---- cases ---------------------------------------------------------------------------


def launch_search(dtype: str, dims: int, centers: int) -> None:
    """The search for so many channels."""
    search._init_fn(*search_inputs(dtype, dims, centers))


def launch_search_tf32x3(dtype: str, dims: int, centers: int) -> None:
    """The search with fp32 on the tensor cores."""
    search._init_fn(*search_inputs(dtype, dims, centers), "tf32x3")


def search_inputs(
    dtype: str, dims: int, centers: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and centers."""
    points = torch.zeros(1, 1, 256, dims, dtype=DTYPES[dtype])
    return points, points[:, :, :centers].clone()


def launch_em_sums(dtype: str, dims: int, centers: int) -> None:
    """The forward pass of the EM step."""
    from cluenet_mm.ops.recurrent_triton import em_sums

    queries, keys = em_inputs(dtype, dims, centers)
    em_sums._init_fn(queries, keys, keys, None, dims**-0.5)


def em_inputs(dtype: str, dims: int, centers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys."""
    keys = torch.zeros(1, 1, 256, dims, dtype=DTYPES[dtype])
    return keys[:, :, :centers].clone(), keys


KERNELS = {
    "search": launch_search,
    "search tf32x3": launch_search_tf32x3,
    "em_sums": launch_em_sums,
}
CASES = [
    *(("search", "fp16", dims, 200) for dims in (32, 64, 128, 196, 320)),
    *(("search", "fp32", dims, 200) for dims in (32, 128, 196)),
    *(("search tf32x3", "fp32", dims, 200) for dims in (32, 128)),
    ("em_sums", "fp16", 32, 49),
    ("em_sums", "fp16", 32, 250),
    ("em_sums", "fp32", 32, 49),
]


def examine(name: str, dtype: str, dims: int, centers: int, architecture: int) -> dict:
    """One row of the table: a kernel compiled for one architecture."""
    with compiling(architecture) as kernels:
        KERNELS[name](dtype, dims, centers)
    row = {"kernel": name, "dtype": dtype, "channels": dims, "centers": centers}
    return {**row, "sm": architecture, **describe(kernels[0])}


# ---- the page ------------------------------------------------------------------------


def filled(page: str, results: Path) -> str:
    """A page whose table holds the numbers of its two files of results."""
    pattern = r"(<!-- kernels: (\S+) (\S+) -->\n).*?(<!-- end -->)"

    def table(found: re.Match) -> str:
        before, after = (
            {
                key(row): row
                for row in json.loads((results / name).read_text())["kernels"]
            }
            for name in found.group(2, 3)
        )
        return found[1] + markdown(before, after) + found[4]

    return re.sub(pattern, table, page, flags=re.DOTALL)


def key(row: dict) -> tuple:
    """What a row is about."""
    return tuple(row[name] for name in ("kernel", "dtype", "channels", "centers", "sm"))


def markdown(before: dict[tuple, dict], after: dict[tuple, dict]) -> str:
    """Rows of kernels by columns of architectures."""
    names = [f"sm_{architecture}" for architecture in ARCHITECTURES]
    lines = [["kernel", "dtype", "D", *names], ["---"] * (3 + len(names))]
    for case in dict.fromkeys(case[:4] for case in after):
        cells = [
            cell(before.get((*case, sm)), after[(*case, sm)]) for sm in ARCHITECTURES
        ]
        name, dtype, channels, centers = case
        if name.startswith("em"):
            name = f"{name}, L={centers}"
        lines.append([name, dtype, str(channels), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(before: dict | None, after: dict) -> str:
    """Instructions, registers, bytes of stack and KiB of shared memory."""
    numbers = [
        [row["instructions"], row["registers"], row["stack"], row["shared"] >> 10]
        for row in (before, after)
        if row
    ]
    pairs = zip(*numbers, strict=True)
    return ", ".join(" → ".join(map(str, dict.fromkeys(pair))) for pair in pairs)


def case(text: str) -> tuple[str, str, int, int]:
    """``search:bf16:32:200``."""
    kernel, dtype, channels, centers = text.split(":")
    if kernel not in KERNELS or dtype not in DTYPES:
        raise argparse.ArgumentTypeError(
            f"cannot compile {text}: no such kernel, dtype"
        )
    return kernel, dtype, int(channels), int(centers)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case",
        nargs="+",
        type=case,
        default=CASES,
        metavar="KERNEL:DTYPE:CHANNELS:CENTERS",
        help="(default: a selection)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table")
    parser.add_argument("--page", type=Path, help="fill its table and do nothing else")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    args = parse_args()
    if args.page:
        results = args.page.parent / "results"
        text = filled(args.page.read_text(encoding="utf-8"), results)
        args.page.write_text(text, encoding="utf-8")
        return
    rows = []
    heads = "kernel dtype channels centers sm registers stack shared instructions"
    print(COLUMNS.format(*heads.split()), flush=True)
    for chosen in args.case:
        for architecture in ARCHITECTURES:
            row = examine(*chosen, architecture)
            rows.append(row)
            print(COLUMNS.format(*list(row.values())[:9]), flush=True)
    if args.json:
        versions = {name: version(name) for name in ("triton", "torch", "cluenet_mm")}
        text = json.dumps({"versions": versions, "kernels": rows}, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_tool(main)
