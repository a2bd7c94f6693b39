"""Write measured numbers into the tables of Markdown pages.

A page names the results that it wants in comments; what stands between the two lines
is replaced: `results` of tools/analysis/benchmark.py, a row for every case, `families`
of the same with a row for every side below a picture, `steps` of train_memory.py,
`models` of get_flops.py whose config begins so, `runs` of collect_runs.py (means over
the seeds, lowest to highest), `reproduction` of tools/reproduce/cifar100.py,
`emergence` and `faithfulness` of cluster_quality.py, several files in one table.

    <!-- results: cpu_224.json -->
    <!-- end -->

    <!-- families: cpu_families.json images/families_cpu.png -->
    <!-- end -->

    <!-- steps: memory.json -->
    <!-- end -->

    <!-- models: models.json configs/fec/ -->
    <!-- end -->

    <!-- runs: digits.json -->
    <!-- end -->

    <!-- reproduction: cifar100_full.json -->
    <!-- end -->

    <!-- emergence: quality_digits_fec.json,quality_digits_coc.json -->
    <!-- end -->

    <!-- faithfulness: quality_digits_fec.json -->
    <!-- end -->
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cluenet_mm.analysis import quality, reproduction
from cluenet_mm.analysis.markdown import head, row
from cluenet_mm.analysis.results import by_side, read_results
from cluenet_mm.engine.cli import fail
from cluenet_mm.files import write_text

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
    parser.add_argument("results", type=Path, help="folder with the results")
    parser.add_argument(
        "pages", type=Path, nargs="+", help="Markdown pages, changed in place"
    )
    return parser.parse_args()


def setting(results: dict) -> list[str]:
    """Device, threads, version of PyTorch and what was chosen, in words."""
    options = [f"{k} {v}" for k, v in results["settings"].items() if v]
    words = [results.get("device", "?"), f"{results.get('threads')} threads"]
    return [*words, f"PyTorch {results['versions']['torch']}", *options]


def table(results: dict) -> str:
    """Device, settings and cases in Markdown."""
    lines = [", ".join(setting(results)) + ".", ""]
    lines += head(COLUMNS)
    return "\n".join([*lines, *(row(cells(case)) for case in results["cases"])]) + "\n"


def cells(case: dict) -> list[str]:
    """What stands in the columns of one case."""
    batch = "max" if case["batch"] is None else str(case["batch"])
    start = [case["mode"], "x".join(map(str, case["shape"])), batch, case["label"]]
    if "error" in case:
        return [*start, case["error"].replace("|", "/"), *[""] * 5]
    low, high = case["images_per_second_range"]
    ratio = case.get("ratio", {})
    names = ("images_per_second", "macs_per_second", "peak_memory_mib")
    return [
        *start,
        f"{number(case['images_per_second'])} ({number(low)} to {number(high)})",
        number(case["peak_memory_mib"]),
        number(case["macs_per_second"] / 1e9),
        *(number(ratio[name]) if ratio.get(name) else "" for name in names),
    ]


def family_table(results: dict, picture: str | None) -> str:
    """Every side in a row, its modes beside each other, in Markdown."""
    cases = results["cases"]
    modes = list(dict.fromkeys(case["mode"] for case in cases))
    words = [*setting(results), f"pixels {'x'.join(map(str, cases[0]['shape']))}"]
    words.append(f"batch {cases[0]['batch'] or 'max'}")
    lines = [f"![Images per second against MACs]({picture})", ""] if picture else []
    columns = ("{}, images/s (lowest to highest)", "{}, memory, MiB", "{}, GMACs/s")
    names = ["backbone", "parameters, M", "GMACs"]
    names += [column.format(mode) for mode in modes for column in columns]
    lines += [", ".join(words) + ".", "", *head(names)]
    for label, by_mode in by_side(results).items():
        line = [label, "", ""]
        for mode in modes:
            case = by_mode.get(mode, {"error": ""})
            if "error" in case:
                line += [case["error"].replace("|", "/"), "", ""]
            else:
                line[1] = number(case["parameters"] / 1e6)
                line[2] = number(case["macs_per_image"] / 1e9)
                line += cells(case)[4:7]
        lines.append(row(line))
    return "\n".join(lines) + "\n"


def step_table(results: dict) -> str:
    """Peak memory of the training steps of one model in Markdown."""
    shape = "x".join(map(str, results["shape"]))
    words = [results["device"], f"{results['threads']} threads"]
    words += [f"PyTorch {results['torch'].split('+')[0]}", f"`{results['config']}`"]
    words += [f"pixels {shape}", f"batch {results['batch']}"]
    words.append("bfloat16" if results["amp"] else "float32")
    lines = [", ".join(words) + ".", ""]
    lines += head(("implementation", "memory, MiB", "ratio"))
    above = None
    for step in results["steps"]:
        memory = step.get("peak_memory_mib")
        cells = [f"`{step['impl']}`", number(memory) if memory else step["error"]]
        cells.append(number(memory / above) if memory and above else "")
        lines.append(row(cells))
        above = memory
    return "\n".join(lines) + "\n"


def model_table(results: dict, prefix: str | None) -> str:
    """Size and cost of configs in Markdown."""
    columns = ("config", "image", "parameters", "MMACs, published", "MMACs, executed")
    lines = head(columns)
    for model in results["models"]:
        config = model["config"]
        if config.startswith(prefix or ""):
            cells = [f"`{Path(config).name}`", "x".join(map(str, model["shape"]))]
            cells.append(f"{model['parameters']:,}")
            cells += [f"{model[k] / 1e6:,.1f}" for k in ("published", "executed")]
            lines.append(row(cells))
    return "\n".join(lines) + "\n"


METRICS = {
    "accuracy/top1": "top-1",
    "coco/bbox_mAP": "box AP",
    "coco/bbox_mAP_50": "box AP50",
    "coco/segm_mAP": "mask AP",
    "coco/segm_mAP_50": "mask AP50",
    "coco_panoptic/PQ": "PQ",
    "mIoU": "mIoU",
}


def run_table(results: dict) -> str:
    """What the last evaluations of runs reached, in Markdown."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for run in results["runs"]:
        groups.setdefault((run["config"], run["backbone"]), []).append(run)
    lasts = [run["metrics"][-1] for run in results["runs"]]
    shown = [name for name in METRICS if any(name in last for last in lasts)]
    names = ["config", "backbone", "seeds", "length", "device"]
    lines = head([*names, *(METRICS[name] for name in shown)])
    for (config, backbone), runs in groups.items():
        values = [run["metrics"][-1] for run in runs]
        cells = [f"`{config}`", backbone, str(len(runs)), runs[0]["length"]]
        cells.append(runs[0]["device"])
        for name in shown:
            found = [value[name] for value in values if name in value]
            cells.append(spread(found) if found else "")
        lines.append(row(cells))
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Mean, and where there are several values their range."""
    mean = f"{sum(values) / len(values):.4g}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.4g} to {max(values):.4g})"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# What can stand in a page: the files' names and what follows them, to Markdown.
TABLES: dict[str, Callable[[list[Path], str | None], str]] = {
    "results": lambda paths, _: table(read_results(*paths)),
    "families": lambda paths, picture: family_table(read_results(*paths), picture),
    "steps": lambda paths, _: step_table(read_results(*paths, "steps")),
    "models": lambda paths, prefix: model_table(read_results(*paths, "models"), prefix),
    "runs": lambda paths, _: run_table(read_results(*paths, "runs")),
    "reproduction": lambda paths, _: reproduction.table(read_results(*paths, "runs")),
    "emergence": lambda paths, _: quality.emergence_table(read_all(paths)),
    "faithfulness": lambda paths, _: quality.faithfulness_table(read_all(paths)),
}
PLACE = re.compile(
    rf"(<!-- ({'|'.join(TABLES)}): (\S+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL
)


def read_all(paths: Sequence[Path]) -> list[dict]:
    """Results of cluster_quality.py, which have no version of their own."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def main() -> None:
    """Run the command line."""
    args = parse_args()

    def fill(place: re.Match) -> str:
        start, kind, names, option, end = place.groups()
        paths = [args.results / name for name in names.split(",")]
        if not all(path.is_file() for path in paths):
            return f"{start}Not measured yet.\n{end}"
        text = TABLES[kind](paths, option)
        return f"{start}{text}{end}"

    try:
        texts = {page: page.read_text(encoding="utf-8") for page in args.pages}
        filled = {page: PLACE.subn(fill, text) for page, text in texts.items()}
    except (OSError, ValueError) as error:
        fail(error)
    for page, (text, count) in filled.items():
        write_text(page, text)
        print(f"{page}: {count} tables")


if __name__ == "__main__":
    sys.exit(main())
