"""Plot images per second against MACs, inference and training beside each other.

Takes a file of tools/analysis/benchmark.py --json with one image size; a point for
every side. Cases that failed are left out. Along a grey line the MACs per second are
the same.
"""

import argparse
import sys
from itertools import product
from math import atan2, degrees
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from cluenet_mm.analysis.results import by_side, read_results
from cluenet_mm.engine.cli import fail, output_file
from cluenet_mm.files import replacing

matplotlib.use("Agg")
# Colour and mark of the backbones that cluster and of the others: they differ in
# lightness as well, for print and for readers who do not see the colours.
STYLES = {True: ("#0a5ca8", "o", "clusters"), False: ("#d9730d", "s", "of mmpretrain")}
GUIDES = (1, 2, 5)  # times powers of ten
# Where a name may stand beside its point, the best first: right, left, above, below,
# or at the end of a line.
SPOTS = (
    *((1, 0), (-1, 0), (0, 1), (0, -1)),
    *((2, 2), (2, -2), (-2, 2), (-2, -2), (0, 3), (0, -3), (3, 4), (3, -4), (-3, -4)),
)
SWEEPS = 4  # times that every name is placed anew beside the others


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="file of results")
    parser.add_argument(
        "--out", required=True, type=output_file, help="picture to write"
    )
    return parser.parse_args()


def collect(results: dict) -> dict[str, list[dict]]:
    """The cases that succeeded, by mode.

    Raises:
        ValueError: There are none, or more of a side than one image size.
    """
    panels: dict[str, list[dict]] = {}
    for cases in by_side(results).values():
        for mode, case in cases.items():
            if "error" not in case:
                panels.setdefault(mode, []).append(case)
    if not panels:
        raise ValueError("no case of the results succeeded")
    return panels


def draw(panels: dict[str, list[dict]], title: str) -> plt.Figure:
    """A panel for every mode."""
    size = (5 * len(panels), 4.2)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", squeeze=False
    )
    for axis, (mode, cases) in zip(axes[0], panels.items(), strict=True):
        axis.set(xscale="log", yscale="log", title=mode)
        axis.set(xlabel="GMACs an image", ylabel="images/s")
        points = [place(case) for case in cases]
        frame(axis, points)
        for clusters, (colour, mark, label) in STYLES.items():
            group = [place(c) for c in cases if (c["impl"] is not None) is clusters]
            if group:
                style = {"c": colour, "marker": mark, "label": label, "s": 44}
                axis.scatter(*zip(*group, strict=True), **style)
    axes[0][0].legend(loc="lower left", framealpha=1)
    figure.suptitle(title, fontsize="medium")
    figure.draw_without_rendering()  # the layout is settled before labels are placed
    for axis, cases in zip(axes[0], panels.values(), strict=True):
        annotate(axis, cases, draw_guides(axis))
    return figure


def place(case: dict) -> tuple[float, float]:
    """GMACs an image and images per second."""
    return case["macs_per_image"] / 1e9, case["images_per_second"]


def frame(axis: Axes, points: list[tuple[float, float]]) -> None:
    """Limits with room for labels, and plain numbers at the axes."""
    xs, ys = zip(*points, strict=True)
    axis.set(xlim=(min(xs) / 2.3, max(xs) * 1.7), ylim=(min(ys) / 1.9, max(ys) * 1.5))
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(LogLocator(subs=GUIDES))
        ticks.set_major_formatter(StrMethodFormatter("{x:g}"))
        ticks.set_minor_locator(LogLocator(subs=()))


def draw_guides(axis: Axes) -> list[Bbox]:
    """Draw and name lines of equal MACs per second; return what the names cover."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    names = []
    for factor, power in product(GUIDES, range(-3, 7)):
        rate = factor * 10**power  # GMACs per second
        xs = max(left, rate / high), min(right, rate / low)
        if xs[0] * 1.5 > xs[1]:
            continue  # a corner
        ends = axis.transData.transform([(x, rate / x) for x in xs])
        slope = degrees(atan2(*(ends[1] - ends[0])[::-1]))
        axis.plot(xs, [rate / x for x in xs], c="#d8d8d8", lw=0.8, zorder=0)
        name = axis.annotate(
            f"{rate:g} GMACs/s",
            (xs[1] / 1.03, rate / xs[1] * 1.03),
            (0, 2),
            textcoords="offset points",
            rotation=slope,
            rotation_mode="anchor",
            ha="right",
            va="bottom",
            fontsize=6.5,
            color="#606060",
        )
        names.append(name.get_window_extent())
    return names


def annotate(axis: Axes, cases: list[dict], taken: list[Bbox]) -> None:
    """Name every point, with lines to the names, where least is covered."""
    points = [place(case) for case in cases]
    marks = [mark_box(axis, point) for point in points]
    if legend := axis.get_legend():
        taken = [*taken, legend.get_window_extent()]
    names = [case["label"].removesuffix(" auto") for case in cases]  # the default
    spots = [
        [name_spot(axis, name, point, spot) for spot in SPOTS]
        for name, point in zip(names, points, strict=True)
    ]
    boxes = [[word_box(text) for text in texts] for texts in spots]
    chosen = [0] * len(cases)
    for _ in range(SWEEPS):
        for i, own in enumerate(boxes):
            others = [boxes[j][k] for j, k in enumerate(chosen) if j != i]
            others += [mark for j, mark in enumerate(marks) if j != i]
            costs = []
            for number, box in enumerate(own):
                covered = sum(overlap(box, x) for x in (*taken, *others, marks[i]))
                outside = box.width * box.height - overlap(box, axis.bbox)
                line = line_between(marks[i], box)
                crossed = sum(other.count_contains(line) for other in others)
                costs.append((covered + 10 * outside + 50 * crossed, number))
            chosen[i] = min(costs)[1]  # the first of equal ones
    for texts, best in zip(spots, chosen, strict=True):
        for number, text in enumerate(texts):
            if number != best:
                text.remove()


def name_spot(
    axis: Axes, name: str, point: tuple[float, float], spot: tuple[float, float]
) -> Annotation:
    """Write a name beside its point, and the line between them."""
    (dx, dy), near = spot, max(map(abs, spot)) <= 1
    return axis.annotate(
        name,
        point,
        (7 * dx, 7 * dy),
        textcoords="offset points",
        ha="left" if dx > 0 else "right" if dx < 0 else "center",
        va="bottom" if dy > 0 else "top" if dy < 0 else "center",
        fontsize=8.5,
        arrowprops=None if near else {"arrowstyle": "-", "lw": 0.6, "color": "#606060"},
    )


def word_box(text: Annotation) -> Bbox:
    """What the words cover; an annotation's own extent has its line in it."""
    text.update_positions(text.figure.canvas.get_renderer())
    return Text.get_window_extent(text)


def line_between(one: Bbox, other: Bbox) -> np.ndarray:
    """Pixels on the way between the centres of two boxes."""
    ends = [np.mean(box.get_points(), axis=0) for box in (one, other)]
    return np.linspace(*ends, num=40)


def mark_box(axis: Axes, point: tuple[float, float]) -> Bbox:
    """What a mark covers and a margin, so that no name seems to be another mark's."""
    x, y = axis.transData.transform(point)
    half = 6 * axis.figure.dpi / 72
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def overlap(one: Bbox, other: Bbox) -> float:
    """Area that both cover."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        results = read_results(args.results)
        panels = collect(results)
    except (OSError, ValueError) as error:
        fail(error)
    case = next(iter(panels.values()))[0]
    words = [results.get("device", "?"), f"{'x'.join(map(str, case['shape']))} pixels"]
    figure = draw(panels, ", ".join([*words, f"batch {case['batch']}"]))
    with replacing(args.out) as temporary:
        figure.savefig(temporary, dpi=110, pil_kwargs={"optimize": True})
    print(args.out)


if __name__ == "__main__":
    sys.exit(main())
