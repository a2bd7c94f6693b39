"""Write measured numbers into the tables of a Markdown page.

The page names the results of tools/analysis/benchmark.py that it wants in comments;
what stands between the two lines is replaced:

    <!-- results: cpu_224.json -->
    <!-- end -->
"""

import argparse
import re
import sys
from pathlib import Path

from cluenet_mm.analysis.results import read_results, write_text
from cluenet_mm.engine.cli import fail

PLACE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = (
    "mode",
    "pixels",
    "batch",
    "side",
    "images/s (lowest to highest)",
    "memory, MiB",
    "GMACs/s",
    "images/s ratio",
    "MACs/s ratio",
    "memory ratio",
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="Markdown page, changed in place")
    parser.add_argument("results", type=Path, help="folder with the results")
    return parser.parse_args()


def table(results: dict) -> str:
    """Device, settings and cases in Markdown."""
    options = [f"{k} {v}" for k, v in results["settings"].items() if v]
    versions = results["versions"]
    words = [results.get("device", "?"), f"{results.get('threads')} threads"]
    words += [f"PyTorch {versions['torch']}", *options]
    lines = [", ".join(words) + ".", "", row(COLUMNS), row(["---"] * len(COLUMNS))]
    return "\n".join([*lines, *(row(cells(case)) for case in results["cases"])]) + "\n"


def cells(case: dict) -> list[str]:
    """What stands in the columns of one case."""
    batch = "max" if case["batch"] is None else str(case["batch"])
    head = [case["mode"], "x".join(map(str, case["shape"])), batch, case["label"]]
    if "error" in case:
        return [*head, case["error"].replace("|", "/"), *[""] * 5]
    low, high = case["images_per_second_range"]
    ratio = case.get("ratio", {})
    names = ("images_per_second", "macs_per_second", "peak_memory_mib")
    return [
        *head,
        f"{number(case['images_per_second'])} ({number(low)} to {number(high)})",
        number(case["peak_memory_mib"]),
        number(case["macs_per_second"] / 1e9),
        *(number(ratio[name]) if ratio.get(name) else "" for name in names),
    ]


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def row(values: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(values) + " |"


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        page = args.page.read_text(encoding="utf-8")
        tables = {
            name: table(read_results(args.results / name))
            for _, name, _ in PLACE.findall(page)
            if (args.results / name).is_file()
        }
    except (OSError, ValueError) as error:
        fail(error)

    def fill(place: re.Match) -> str:
        head, name, end = place.groups()
        return f"{head}{tables.get(name, f'Not measured yet.{chr(10)}')}{end}"

    write_text(args.page, PLACE.sub(fill, page))
    print(f"{args.page}: {len(tables)} tables")


if __name__ == "__main__":
    sys.exit(main())
