"""Plot results of benchmark.py, collect_runs.py or cluster_quality.py.

`families` shows images per second against MACs; along a grey line the MACs per second
are the same. `scaling` shows seconds and memory an image against its pixels. Both have
a panel for each mode or quantity. `accuracy` shows top-1 of every epoch of runs,
`segments` the quality of segments over their number, a row for each file.

Example:
    python tools/dev/plots.py families docs/results/cpu_families.json --out families.png
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from docs_tables import CASES, RUNS, by_side, read
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cluenet_mm.files import atomic_write
from cluenet_mm.guard import run_tool

matplotlib.use("Agg")
# Color and mark of the networks that cluster and of the others: they differ in
# lightness as well, for print and for readers who do not see the colors.
STYLES = {True: ("#0a5ca8", "o"), False: ("#d9730d", "s")}
RATES = [factor * 10**power for power in range(-1, 5) for factor in (1, 2, 5)]


def families(results: dict, mode: str) -> Figure:
    """Numbered points, a panel for each mode; the legend says which is which."""
    sides = by_side(results)
    modes = list(dict.fromkeys(case["mode"] for case in results["cases"]))
    size = (5 * len(modes), 4.8)
    figure, axes = plt.subplots(1, len(modes), figsize=size, squeeze=False)
    names = [f"{i} {label}" for i, label in enumerate(sides, start=1)]
    for axis, mode in zip(axes[0], modes, strict=True):
        axis.set(xscale="log", yscale="log", title=mode)
        axis.set(xlabel="GMACs an image", ylabel="images/s")
        for i, (name, side) in enumerate(zip(names, sides.values(), strict=True), 1):
            case = side.get(mode, {})
            if "images_per_second" in case:
                color, mark = STYLES[case["impl"] is not None]
                point = (case["macs_per_image"] / 1e9, case["images_per_second"])
                axis.plot(*point, mark, color=color, label=name)
                spot = (7 if i % 2 else -13, -4)  # neighbors may be close
                axis.annotate(i, point, spot, textcoords="offset points")
        axis.margins(0.15)
        for ticks in (axis.xaxis, axis.yaxis):
            ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ticks.set_minor_locator(LogLocator(subs=()))
            ticks.set_major_formatter("{x:g}")
        draw_rates(axis)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize="small"
    )
    figure.set_layout_engine("constrained")
    return figure


def draw_rates(axis: Axes) -> None:
    """Lines of equal MACs per second, with their values."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    for rate in RATES:
        x = max(left, rate / high)
        if 1.3 * x < right and rate / x > 1.1 * low:
            ends = (x, min(right, rate / low))
            axis.plot(ends, [rate / x for x in ends], color="#d8d8d8", lw=0.8, zorder=0)
            style = {"fontsize": 6.5, "color": "#606060", "va": "top"}
            axis.text(x, rate / x, f"  {rate:g} GMACs/s", **style)
    axis.set(xlim=(left, right), ylim=(low, high))


def scaling(results: dict, mode: str) -> Figure:
    """Lines over the pixels of an image, seconds beside memory."""
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for case in results["cases"]:
        if case["mode"] == mode and "images_per_second" in case:
            height, width = case["shape"]
            memory = case["peak_memory_mib"] / case["batch"]
            point = (height * width, 1 / case["images_per_second"], memory)
            lines.setdefault(case["label"], []).append(point)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    panels = zip(axes, ("seconds an image", "peak memory an image, MiB"), strict=True)
    for column, (axis, name) in enumerate(panels, start=1):
        axis.set(xscale="log", yscale="log", xlabel="pixels", ylabel=name)
        axis.grid(visible=True, which="both", alpha=0.25)
        for label, line in lines.items():
            pixels, values = zip(
                *[(p[0], p[column]) for p in sorted(line)], strict=True
            )
            axis.plot(pixels, values, marker="o", label=label)
        low = min(values[0], *(min(line)[column] for line in lines.values()))
        guide = [low * count / pixels[0] for count in pixels]
        axis.plot(pixels, guide, ":", color="grey", label="linear in pixels")
    axes[0].legend()
    return figure


def accuracy(results: dict) -> Figure:
    """Top-1 accuracy over the epochs, a line for each run."""
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axis.set(xlabel="epoch", ylabel="top-1, per cent")
    axis.grid(visible=True, alpha=0.25)
    for run in results["runs"]:
        steps = [entry["step"] for entry in run["metrics"]]
        values = [entry["accuracy/top1"] for entry in run["metrics"]]
        name = f"{run['config']}, {run['backbone']}: {values[-1]:.2f}"
        axis.plot(steps, values, marker=".", label=name)
    axis.legend(loc="lower right")
    return figure


# Kinds of segments that are shown, and how.
SEGMENTS = {
    "clusters and colors": ("network and colors", "#0a5ca8", "o-"),
    "clusters": ("network", "#5a9bd5", "o-"),
    "untrained 1 and colors": ("untrained and colors", "#b3541e", "s--"),
    "untrained 1": ("untrained", "#e59a5f", "s--"),
    "Ward on colors": ("Ward on colors", "#222222", "^:"),
    "SLIC": ("SLIC", "#777777", "v:"),
}


def segments(paths: list[Path]) -> Figure:
    """Lines over the number of segments, a row for each dataset."""
    titles = {"accuracy": "ASA", "undersegmentation": "UE", "best_iou": "best IoU"}
    figure, grid = plt.subplots(
        len(paths),
        len(titles),
        figsize=(10, 3.1 * len(paths)),
        squeeze=False,
        layout="constrained",
    )
    for axes, path in zip(grid, paths, strict=True):
        results = read(path, ("emergence", {"stage", "segments", "best_iou"}))
        rows = results["emergence"]["merged"]
        for axis, (name, title) in zip(axes, titles.items(), strict=True):
            for kind, (label, color, style) in SEGMENTS.items():
                points = [
                    (row["k"], row[name]) for row in rows if row["segments"] == kind
                ]
                axis.plot(
                    *zip(*points, strict=True), style, color=color, label=label, ms=4
                )
            ticks = sorted({row["k"] for row in rows})
            axis.set(xscale="log", title=f"{results['dataset']}: {title}", xlabel="k")
            axis.set_xticks(ticks, map(str, ticks))
            axis.minorticks_off()
            axis.grid(visible=True, alpha=0.25)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


KINDS = {"families": families, "scaling": scaling}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=[*KINDS, "accuracy", "segments"])
    parser.add_argument("results", type=Path, nargs="+", help="files of results")
    parser.add_argument("--out", required=True, type=Path, help="picture to write")
    parser.add_argument("--mode", choices=["infer", "train"], default="infer")
    args = parser.parse_args()
    try:
        if args.kind == "accuracy":
            figure = accuracy(read(args.results[0], RUNS))
        elif args.kind == "segments":
            figure = segments(args.results)
        else:
            results = read(args.results[0], CASES)
            figure = KINDS[args.kind](results, args.mode)
            threads = f"{results.get('threads')} threads"
            figure.suptitle(f"{results.get('device', '?')}, {threads}")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    with atomic_write(args.out) as temporary:
        figure.savefig(temporary, dpi=130)
    print(args.out)


if __name__ == "__main__":
    run_tool(main)
