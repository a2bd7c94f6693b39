"""Everything that only a GPU can show, in ten minutes, as one JSON file.

    python tools/dev/gpu_check.py --json gpu_check.json

Parts, in this order; one that fails does not end the others, and the last ones are cut
short when the time is over:
  correctness  kernels against the definition in fp64, all dtypes, gradients too; how
               often "tf32x3" chooses another center than "ieee"
  tests        the tests that are marked for a GPU
  profile      one training step of CLUENet tiny: its kernels by their time
  tilings      the time of the search with the tiles of its table and with others
  benchmarks   the tables of docs/benchmarks.md, into docs/results
The exit status is 1 where a part failed. On a CPU, with `--device cpu --quick`, the
script itself can be tried: Triton's interpreter runs the kernels where
TRITON_INTERPRET=1 is set, the PyTorch implementation elsewhere.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from cluenet_mm.guard import run_tool
from cluenet_mm.ops import assign, em_step, implementation, unit

ROOT = Path(__file__).resolve().parents[2]
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
# (B, G, N, M, D) of searches, the poolings of CLUENet tiny at 224 and 1344x800 among
# them, and (B, G, L, N, D) of EM steps.
SEARCHES = [
    (2, 3, 67, 130, 33),
    (2, 4, 3136, 49, 24),
    (2, 1, 3136, 784, 32),
    (2, 1, 784, 196, 64),
    (2, 1, 196, 49, 196),
    (1, 1, 784, 3000, 320),
    (1, 1, 67200, 16800, 32),
]
STEPS = [(2, 3, 49, 3136, 32), (1, 8, 153, 4200, 32), (1, 2, 250, 1000, 128)]
QUICK = {"searches": [(1, 2, 67, 70, 24)], "steps": [(1, 2, 9, 70, 8)]}
BENCHMARKS = ("gpu_224", "gpu_families", "gpu_scaling", "gpu_largest_batch")


def sample(
    batch: int, heads: int, num: int, dims: int, device: str, seed: int
) -> Tensor:
    """``(B, G, N, D)`` in fp32, heads strided as in the networks."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, num, heads * dims, generator=generator)
    return x.unflatten(2, (heads, dims)).transpose(1, 2).to(device)


def gradients(
    function: Callable, inputs: list[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """Output and gradients, in double, of a function of tensors."""
    leaves = [x.to(dtype).detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    out.backward(weight.to(out.dtype))
    return [x.double() for x in (out, *(leaf.grad for leaf in leaves))]


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest error over the largest value."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(1e-30)).item()


def errors(
    function: Callable, inputs: list[Tensor], dtype: torch.dtype, args
) -> dict[str, list[float]]:
    """Errors of output and gradients of the kernel, and of the definition."""
    with implementation("naive"):
        expected = gradients(function, inputs, torch.float64)
        naive = gradients(function, inputs, dtype)
    with implementation(args.impl):
        found = gradients(function, inputs, dtype)
    return {
        "errors": list(map(relative, found, expected)),
        "errors_naive": list(map(relative, naive, expected)),
    }


def check_search(shape: tuple[int, ...], dtype: torch.dtype, args) -> dict:
    """The search against the table in fp64, of the values that the dtype can hold."""
    batch, heads, num_points, num_centers, dims = shape
    points = unit(sample(batch, heads, num_points, dims, args.device, 0)).to(dtype)
    centers = unit(sample(batch, heads, num_centers, dims, args.device, 1)).to(dtype)
    row = {"shape": shape, "dtype": str(dtype).removeprefix("torch.")}
    with implementation(args.impl):
        index = assign(points, centers, unit_points=True).index
    row |= against_table(index, points, centers)
    eps = torch.finfo(dtype).eps
    row["ok"] = row["largest_gap"] <= 2 * eps  # centers are normalized once more
    if dtype == torch.float32 and args.impl == "triton":
        from cluenet_mm.ops.assign.triton import search

        exact, _ = search(points, unit(centers))
        near, _ = search(points, unit(centers), precision="tf32x3")
        found = against_table(near, points, centers)
        row["tf32x3"] = found | {"moved": (near != exact).double().mean().item()}
    if num_points * num_centers <= 1 << 22:
        # Of the cosine, and of the gradients of points and centers.
        row |= errors(lambda *x: assign(*x).similarity, [points, centers], dtype, args)
    return row


def against_table(index: Tensor, points: Tensor, centers: Tensor) -> dict:
    """Share of points whose best center was found, and what the others lose."""
    lost, agree = 0.0, 0
    for b, g in ((b, g) for b in range(len(points)) for g in range(points.size(1))):
        for rows, found in zip(
            points[b, g].split(8192), index[b, g].split(8192), strict=True
        ):
            table = rows.double() @ unit(centers[b, g].double()).T
            best, first = table.max(dim=-1)
            got = table.gather(-1, found.unsqueeze(-1)).squeeze(-1)
            lost = max(lost, (best - got).max().item())
            agree += (first == found).sum().item()
    return {"agreement": agree / index.numel(), "largest_gap": lost}


def check_step(shape: tuple[int, ...], dtype: torch.dtype, args) -> dict:
    """The EM step and its gradients against the definition in fp64."""
    batch, heads, num_centers, num_points, dims = shape
    sizes = (num_centers, num_points, num_points)
    inputs = [
        sample(batch, heads, n, dims, args.device, i).to(dtype)
        for i, n in enumerate(sizes)
    ]
    row = {"shape": shape, "dtype": str(dtype).removeprefix("torch.")}
    # Of the centers, and of the gradients of queries, keys and values.
    row |= errors(lambda *x: em_step(*x, dims**-0.5), inputs, dtype, args)
    eps = torch.finfo(dtype).eps
    pairs = zip(row["errors"], row["errors_naive"], strict=True)
    return row | {"ok": all(a <= 2 * b + 64 * eps for a, b in pairs)}


def correctness(args) -> dict:
    """Kernels against definitions."""
    searches = QUICK["searches"] if args.quick else SEARCHES
    steps = QUICK["steps"] if args.quick else STEPS
    found = {
        "assign": [check_search(s, d, args) for s in searches for d in DTYPES],
        "em_step": [check_step(s, d, args) for s in steps for d in DTYPES],
    }
    return found | {"ok": all(row["ok"] for rows in found.values() for row in rows)}


def tests(args) -> dict:
    """The marked tests; without a GPU they are collected alone."""
    words = ["-m", "pytest", "tests/ops", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    words += ["--collect-only"] if args.device == "cpu" else []
    result = run([sys.executable, *words], args)
    tail = result.stdout.strip().splitlines()[-15:]
    return {"ok": result.returncode == 0, "output": tail}


def profile(args) -> dict:
    """Kernels of one training step, and the time of a step over twenty."""
    from cluenet_mm.backbones import CLUENet

    cuda = args.device == "cuda"
    model = CLUENet("micro" if args.quick else "tiny").to(args.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=cuda)
    side = 64 if args.quick else 224
    images = torch.randn(2 if args.quick else 128, 3, side, side, device=args.device)

    def step() -> None:
        with torch.autocast(args.device, torch.bfloat16):
            features = model(images)
        sum(x.float().square().mean() for x in features).backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(step, args.device, 2 if args.quick else 20)
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CPU, activity.CUDA] if cuda else [activity.CPU]
    with torch.profiler.profile(activities=kinds) as trace:
        step()
        synchronize(args.device)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(trace.key_averages(), key=lambda x: -getattr(x, key))
    return {
        "ok": True,
        "seconds_per_step": seconds,
        "images": len(images),
        "kernels": [
            {"name": x.key[:100], "calls": x.count, "us": getattr(x, key)}
            for x in events[:30]
        ],
    }


def tilings(args) -> dict:
    """The search with other tiles than those of its table."""
    if args.impl != "triton" or args.device == "cpu":
        return {"ok": True, "skipped": "timing needs a GPU"}
    from cluenet_mm.ops.assign import triton as module

    rows, table = [], module.tiling
    for batch, heads, num_points, num_centers, dims in SEARCHES[1:]:
        for dtype in (torch.bfloat16, torch.float32):
            points = sample(batch, heads, num_points, dims, args.device, 0).to(dtype)
            centers = unit(sample(batch, heads, num_centers, dims, args.device, 1))
            centers = centers.to(dtype)
            chosen = table(-(-dims // 16) * 16, dtype)
            others = {
                chosen,
                chosen._replace(points=128, warps=8),
                chosen._replace(centers=128, warps=8),
                chosen._replace(stages=2),
                chosen._replace(stages=4),
            }
            for tiles in sorted(others):
                module.tiling = lambda *_, tiles=tiles: tiles
                try:
                    ms = 1e3 * timed(
                        partial(module.search, points, centers), "cuda", 20
                    )
                except Exception as error:  # too much shared memory, say
                    ms = str(error)[:200]
                finally:
                    module.tiling = table
                shape = (batch, heads, num_points, num_centers, dims)
                row = {"shape": shape, "dtype": str(dtype), "ms": ms}
                rows.append(row | tiles._asdict() | {"chosen": tiles == chosen})
    return {"ok": True, "rows": rows}


def benchmarks(args) -> dict:
    """The tables, by the script that makes them; as many as there is time for."""
    if args.device == "cpu":
        return {"ok": True, "skipped": "the tables are a GPU's"}
    (script,) = ROOT.glob("tools/*/run_benchmarks.sh")
    found = {}
    for part in BENCHMARKS:
        path = ROOT / f"docs/results/{part}.json"
        begin = time.time()
        result = run(["bash", str(script), part], args)
        if path.is_file() and path.stat().st_mtime >= begin:
            found[part] = json.loads(path.read_text())
        else:
            found[part] = {"error": result.stdout[-1000:] + result.stderr[-1000:]}
    return {"ok": all("error" not in x for x in found.values()), **found}


PARTS = (correctness, tests, profile, tilings, benchmarks)


def run(words: list[str], args) -> subprocess.CompletedProcess:
    """A command in the checkout, ended when the time is over."""
    environment = os.environ | {"PYTHON": sys.executable}
    left = max(args.end - time.monotonic(), 1)
    try:
        return subprocess.run(
            words, cwd=ROOT, env=environment, timeout=left,
            capture_output=True, encoding="utf-8",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", "no time was left")


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(function: Callable[[], object], device: str, times: int) -> float:
    """Seconds a call after two that warm up."""
    for _ in range(2):
        function()
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(times):
        function()
    synchronize(device)
    return (time.perf_counter() - begin) / times


def machine(device: str) -> dict:
    """What the numbers are of."""
    found = {"device": platform.processor() or platform.machine()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found = {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return found | {"torch": torch.__version__, "python": platform.python_version()}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, to try the script")
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--minutes", type=float, default=10, help="time for all of it")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("cannot check a GPU: PyTorch sees none. Use --device cpu to try.")
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    kernels = find_spec("triton") and (args.device == "cuda" or interpreted)
    args.impl = "triton" if kernels else "auto"
    args.end = time.monotonic() + 60 * args.minutes
    return args


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    found = machine(args.device) | {"impl": args.impl}
    for part in PARTS:
        name = part.__name__
        if name not in args.parts:
            continue
        begin = time.monotonic()
        try:
            found[name] = part(args)
        except Exception:
            found[name] = {"ok": False, "error": traceback.format_exc()[-2000:]}
        found[name]["seconds"] = round(time.monotonic() - begin, 1)
        print(name, "ok" if found[name]["ok"] else "FAILED", found[name]["seconds"])
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not all(found[name]["ok"] for name in args.parts))


if __name__ == "__main__":
    run_tool(main)
