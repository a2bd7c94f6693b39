"""Plot how time and memory of an image grow with its size, on logarithmic axes.

Takes files of tools/analysis/benchmark.py --json; a line for every side. Cases that
failed are left out. The dotted line grows as the number of pixels does.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from cluenet_mm.analysis.results import read_results
from cluenet_mm.engine.cli import fail, output_file
from cluenet_mm.files import replacing

matplotlib.use("Agg")
Lines = dict[str, list[tuple[int, float, float]]]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="files of results")
    parser.add_argument(
        "--out", required=True, type=output_file, help="picture to write"
    )
    parser.add_argument("--mode", choices=["infer", "train"], default="infer")
    return parser.parse_args()


def collect(files: list[Path], mode: str) -> tuple[Lines, str]:
    """Pixels, seconds and MiB an image of every side, and the name of the device.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file is none of results, or fewer than two sizes were measured.
    """
    lines: Lines = {}
    devices = set()
    for file in files:
        results = read_results(file)
        devices.add(results.get("device", "?"))
        for case in results["cases"]:
            if case["mode"] == mode and "error" not in case:
                height, width = case["shape"]
                seconds = 1 / case["images_per_second"]
                memory = case["peak_memory_mib"] / case["batch"]
                line = lines.setdefault(case["label"], [])
                line.append((height * width, seconds, memory))
    if not lines or max(len(line) for line in lines.values()) < 2:
        names = ", ".join(map(str, files))
        raise ValueError(f"{names}: fewer than two image sizes with mode {mode}")
    return {label: sorted(line) for label, line in lines.items()}, ", ".join(devices)


def draw(lines: Lines, title: str) -> plt.Figure:
    """Two panels beside each other: seconds and MiB an image against pixels."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    panels = zip(axes, ("seconds an image", "peak memory an image, MiB"), strict=True)
    for column, (axis, name) in enumerate(panels, start=1):
        for label, line in lines.items():
            pixels = [point[0] for point in line]
            axis.plot(pixels, [p[column] for p in line], marker="o", label=label)
        first = min((line[0] for line in lines.values()), key=lambda p: p[column])
        ends = [first[0], max(line[-1][0] for line in lines.values())]
        guide = [first[column] * pixels / first[0] for pixels in ends]
        axis.plot(ends, guide, ":", color="grey", label="linear in pixels")
        axis.set(xscale="log", yscale="log", xlabel="pixels", ylabel=name)
        axis.grid(visible=True, which="both", alpha=0.25)
    axes[0].legend()
    figure.suptitle(title)
    return figure


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        lines, device = collect(args.results, args.mode)
    except (OSError, ValueError) as error:
        fail(error)
    figure = draw(lines, f"{args.mode}, {device}")
    with replacing(args.out) as temporary:
        figure.savefig(temporary, dpi=130)
    print(args.out)


if __name__ == "__main__":
    sys.exit(main())
