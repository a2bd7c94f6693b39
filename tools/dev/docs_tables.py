"""Write measured numbers into the tables of Markdown pages.

A page names the results that it wants in a comment, several files with commas between;
what stands between the two lines is replaced:

    <!-- results: cpu_224.json -->
    <!-- end -->

`results` are cases of tools/analysis/benchmark.py, `families` the same with one row for
each side, below a picture that may follow; `models` are those of get_flops.py whose
config begins with the word that follows, `networks` the same with the accuracy of the
papers and of the published weights, on the dataset that follows if one does; `heads`
what stands behind the backbones of segmentors; `runs` and `reproduction` are those of
collect_runs.py and reproduce_cifar100.py; `emergence`, `merged`, `stability`,
`faithfulness` and `pointing` those of cluster_quality.py, whose rows a regular
expression may choose (`^4.(clusters|grid)$`, of stage and segments), `cells` those of
native_cells.py. A missing file is an error, except after the word `pending`, which goes
once there are results.

Example: python tools/dev/docs_tables.py docs/results docs/*.md configs/*/README.md
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import yaml

from cluenet_mm.checkpoint import load_checkpoint
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.weights import published

CONFIGS = Path(__file__).parents[2] / "configs"

Row = dict[str, str]  # contents of the columns, by their titles

# Of each kind: where its entries are, and what each of them must hold.
CASES = ("cases", {"label", "mode", "shape", "batch"})
RUNS = ("runs", {"config", "backbone", "length", "device", "metrics"})
MODELS = ("models", {"config", "shape", "parameters", "published", "executed"})
HEADS = ("models", {"config", "shape", "parameters", "parts"})
CELLS = ("cells", {"name", "stage", "cells", "accuracy", "place", "near"})


def read(path: Path, kind: tuple[str, set[str]]) -> dict:
    """Read a file of results.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds no results of this kind.
    """
    key, needed = kind
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        entries = results[key]
        entries = entries["rows"] if isinstance(entries, dict) else entries
        if entries and all(entry.keys() >= needed for entry in entries):
            return results
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise ValueError(f"cannot use {path}: it holds no results with {key!r}")


def by_side(results: dict) -> dict[str, dict[str, dict]]:
    """Cases of the benchmark: of every side, the one of each mode.

    Raises:
        ValueError: A side was measured with more than one image size.
    """
    sides: dict[str, dict[str, dict]] = {}
    for case in results["cases"]:
        side = sides.setdefault(case["label"], {})
        if side.setdefault(case["mode"], case) is not case:
            raise ValueError(
                f"{case['label']} was measured twice with mode {case['mode']}; measure "
                "one image size and every backbone once"
            )
    return sides


def table(rows: Iterable[Row]) -> str:
    """A Markdown table with every column that is not empty."""
    rows = list(rows)
    titles = dict.fromkeys(title for row in rows for title in row if row[title])
    lines = [[*titles], ["---"] * len(titles)]
    lines += [[row.get(title, "") for title in titles] for row in rows]
    return "".join(f"| {' | '.join(map(str.strip, line))} |\n" for line in lines)


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def scaled(entry: dict, name: str, unit: float = 1.0) -> str:
    """A number of an entry, empty where it has none."""
    return number(entry[name] / unit if entry.get(name) else None)


def pixels(entry: dict) -> str:
    """Height and width of the images."""
    return "x".join(map(str, entry["shape"]))


# --- cases of the benchmark -----------------------------------------------------------


def setting(results: dict, *more: str) -> str:
    """Device, threads, version of PyTorch and what was chosen, in words."""
    options = [f"{k} {v}" for k, v in results["settings"].items() if v]
    words = [results.get("device", "?"), f"{results.get('threads')} threads"]
    words += [f"PyTorch {results['versions']['torch']}", *options, *more]
    return ", ".join(words) + ".\n\n"


def measured(case: dict) -> Row:
    """Speed and memory of a case, or what went wrong."""
    speed = case.get("error", "").replace("|", "/")
    if "images_per_second" in case:
        low, high = map(number, case["images_per_second_range"])
        speed = f"{number(case['images_per_second'])} ({low} to {high})"
    return {
        "images/s (lowest to highest)": speed,
        "memory, MiB": scaled(case, "peak_memory_mib"),
        "GMACs/s": scaled(case, "macs_per_second", 1e9),
    }


def results_table(paths: list[Path], option: str) -> str:
    """Every case in a row."""
    results = read(*paths, CASES)
    rows = [
        {
            "mode": case["mode"],
            "pixels": pixels(case),
            "batch": str(case["batch"] or "max"),
            "side": case["label"],
            **measured(case),
            "images/s ratio": scaled(case.get("ratio", {}), "images_per_second"),
            "MACs/s ratio": scaled(case.get("ratio", {}), "macs_per_second"),
            "memory ratio": scaled(case.get("ratio", {}), "peak_memory_mib"),
        }
        for case in results["cases"]
    ]
    return setting(results) + table(rows)


def families_table(paths: list[Path], picture: str) -> str:
    """Every side in a row, its modes beside each other."""
    results = read(*paths, CASES)
    rows = []
    for label, modes in by_side(results).items():
        cost = next((case for case in modes.values() if "error" not in case), {})
        row = {
            "backbone": label,
            "parameters, M": scaled(cost, "parameters", 1e6),
            "GMACs": scaled(cost, "macs_per_image", 1e9),
        }
        for mode, case in modes.items():
            row |= {f"{mode}, {title}": text for title, text in measured(case).items()}
        rows.append(row)
    first = results["cases"][0]
    words = [f"pixels {pixels(first)}", f"batch {first['batch'] or 'max'}"]
    shown = f"![Images per second against MACs]({picture})\n\n" if picture else ""
    return shown + setting(results, *words) + table(rows)


# --- sizes ----------------------------------------------------------------------------


def models_table(paths: list[Path], prefix: str) -> str:
    """Size and cost of configs."""
    return table(
        {
            "config": f"`{Path(model['config']).name}`",
            "image": pixels(model),
            "parameters": f"{model['parameters']:,}",
            "MMACs, published": f"{model['published'] / 1e6:,.1f}",
            "MMACs, executed": f"{model['executed'] / 1e6:,.1f}",
        }
        for model in read(*paths, MODELS)["models"]
        if model["config"].startswith(prefix)
    )


def networks_table(paths: list[Path], dataset: str) -> str:
    """Networks of the metafiles: size, the papers' accuracy, ours."""
    measured = {model["config"]: model for model in read(*paths, MODELS)["models"]}
    ours = {entry.config: name for name, entry in published().items()}
    rows = []
    for path in sorted(CONFIGS.glob("*/metafile.yml")):
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]:
            size = measured.get(model["Config"])
            result = model.get("Results", [{"Dataset": "", "Metrics": {}}])[0]
            if not size or dataset not in ("", result["Dataset"]):
                continue
            paper = [v for k, v in result["Metrics"].items() if "paper" in k]
            name = ours.get(model["Config"].removeprefix("configs/"))
            if not (paper or name):
                continue
            weights = f"cluenet_mm://{name}"
            meta = load_checkpoint(weights)["meta"]["published"] if name else {}
            rows.append(
                {
                    "network": model["Name"].split("_")[0],
                    "dataset": result["Dataset"],
                    "image": pixels(size),
                    "parameters": f"{size['parameters'] / 1e6:.2f} M",
                    "MMACs": f"{size['published'] / 1e6:,.0f}",
                    "top-1, paper": f"{paper[0]:.2f}" if paper else "",
                    "top-1, ours": f"{meta['metrics']['accuracy/top1']:.2f} "
                    f"({meta['epochs']} epochs)"
                    if name
                    else "",
                    "weights": f"`{weights}`" if name else "",
                }
            )
    return table(rows)


def heads_table(paths: list[Path], prefix: str) -> str:
    """Neck and head of segmentors: size, cost and share of the first one's."""
    rows, first = [], None
    for model in read(*paths, HEADS)["models"]:
        if not model["config"].startswith(prefix):
            continue
        parts = [p for p in model["parts"] if not p["name"].startswith("backbone.")]
        size, macs = (sum(p[key] for p in parts) for key in ("parameters", "executed"))
        first = first or (size, macs)
        row = {"config": f"`{Path(model['config']).name}`", "image": pixels(model)}
        row["parameters of neck and head"] = f"{size:,} ({100 * size / first[0]:.3g} %)"
        row["MMACs"] = f"{number(macs / 1e6)} ({100 * macs / first[1]:.3g} %)"
        row["parameters of the model"] = f"{model['parameters']:,}"
        rows.append(row)
    return table(rows)


# --- runs -----------------------------------------------------------------------------

METRICS = {
    "accuracy/top1": "top-1",
    "coco/bbox_mAP": "box AP",
    "coco/bbox_mAP_50": "box AP50",
    "coco/segm_mAP": "mask AP",
    "coco/segm_mAP_50": "mask AP50",
    "coco_panoptic/PQ": "PQ",
    "mIoU": "mIoU",
    "mBF": "boundary F",
}
# By backbone: title, and top-1 accuracy in CLUENet's paper.
CIFAR100 = {
    "CLUENet": ("CLUENet micro", "76.55"),
    "ContextCluster": ("Context Cluster mini", "71.92"),
    "FEC": ("FEC mini", "69.73"),
    "ClusterFormer": ("ClusterFormer mini", "66.05"),
    "ResNet_CIFAR": ("ResNet-18 of mmpretrain", "69.84, another ResNet"),
}


def last(runs: list[dict], metric: str) -> list[float]:
    """What the last evaluations of runs reached, of those that have this metric."""
    found = (run["metrics"][-1].get(metric) for run in runs)
    return [value for value in found if value is not None]


def runs_table(paths: list[Path], option: str) -> str:
    """What the last evaluations reached: means over the seeds, and their range."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    runs = read(*paths, RUNS)["runs"]
    for run in runs:
        key = run["config"], run["backbone"], run.get("weights", "")
        groups.setdefault(key, []).append(run)
    shown = {k: title for k, title in METRICS.items() if last(runs, k)}
    rows = []
    for (config, backbone, weights), group in groups.items():
        row = {
            "config": f"`{config}`",
            "backbone": backbone,
            "weights": weights and f"`{weights}`",
            "seeds": str(len(group)),
            "length": group[0]["length"],
            "device": group[0]["device"],
        }
        for metric, title in shown.items():
            values = last(group, metric)
            row[title] = f"{mean(values):.4g}" if values else ""
            if len(values) > 1:
                row[title] += f" ({min(values):.4g} to {max(values):.4g})"
        rows.append(row)
    return table(rows)


def reproduction_table(paths: list[Path], option: str) -> str:
    """Runs on CIFAR-100 beside the paper's numbers: means and deviations."""
    runs = read(*paths, RUNS)["runs"]
    rows = []
    for backbone, (title, paper) in CIFAR100.items():
        group = [run for run in runs if run["backbone"] == backbone]
        row = {"network": title, "parameters": "", "paper, top-1": paper}
        row["here, top-1"] = "not run"
        if values := last(group, "accuracy/top1"):
            deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
            row |= {
                "parameters": f"{group[0]['parameters']:,}",
                "here, top-1": f"{mean(values):.2f}{deviation}",
                "seeds": ", ".join(str(run["seed"]) for run in group),
                "length": group[0]["length"],
                "device": group[0]["device"],
                "hours of training": f"{mean(run['hours'] for run in group):.2g}",
            }
        rows.append(row)
    return table(rows)


# --- what clusters are worth ----------------------------------------------------------

_MATCH = {
    "ASA ↑": "accuracy",
    "UE ↓": "undersegmentation",
    "BR ↑": "boundary_recall",
    "best IoU ↑": "best_iou",
    "best IoU, small ↑": "small_iou",
    "NMI ↑": "nmi",
    "ARI ↑": "ari",
    "EV ↑": "explained",
}
# Tables of cluster_quality.py: names of numbers by titles of columns.
QUALITY = {
    "emergence": _MATCH,
    "merged": {
        title: _MATCH[title]
        for title in ("ASA ↑", "UE ↓", "best IoU ↑", "best IoU, small ↑")
    },
    "stability": {"shift ↑": "shift", "flip ↑": "flip", "noise ↑": "noise"},
    "faithfulness": {
        "insertion ↑": "insertion",
        "random order": "random_insertion",
        "deletion ↓": "deletion",
        "random order ": "random_deletion",  # another key, the same title
    },
    "pointing": {"heat in the class's image ↑": "share", "maximum in it ↑": "hit"},
}


def quality_table(kind: str, paths: list[Path], shown: str) -> str:
    """Kinds of segments of a network in rows, by stage or number.

    Args:
        kind: One of ``QUALITY``.
        paths: Files of results.
        shown: Regular expression that "STAGE SEGMENTS" of a row contains.
    """
    return table(
        row
        for path in paths
        for row in quality_rows(path, kind)
        if re.search(shown, f"{row.get('k', row.get('stage'))} {row['segments']}")
    )


def quality_rows(path: Path, kind: str) -> Iterable[Row]:
    """Every kind of segments of a network in a row."""
    merged, titles = kind == "merged", QUALITY[kind]
    place = "emergence" if merged else kind
    results = read(path, (place, {"stage", "segments", next(iter(titles.values()))}))
    found = results[place]
    annotated = kind not in ("faithfulness", "pointing")
    data = f" of {results['dataset']}" if annotated else ""
    options = results.get("cfg_options", {}).items()
    for entry in found["merged" if merged else "rows"]:
        row = {
            "images": f"{found['images']}{data}",
            "option": ", ".join(f"`{name.split('.')[-1]}={v}`" for name, v in options),
            "k" if merged else "stage": str(entry["k" if merged else "stage"]),
            "segments": entry["segments"],
        }
        if not merged:
            row["count"] = f"{entry.get('count', entry.get('regions')):.1f}"
        for title, name in titles.items():
            width = entry.get("interval", {}).get(name)
            row[title] = f"{entry[name]:.3f}" if entry.get(name) is not None else ""
            row[title] += f" ± {width:.3f}" if width is not None else ""
        yield row


def cells_table(paths: list[Path], option: str) -> str:
    """Memberships of segmentors beside cells by place; native_cells.py wrote them."""
    return table(
        {
            "network": entry["name"],
            "stage": str(entry["stage"]),
            "cells": f"{entry['cells']:.4g}",
            "ASA ↑": f"{entry['accuracy']:.3f} ({entry['place']['accuracy']:.3f})",
            "BR ↑": (
                f"{entry['boundary_recall']:.3f} "
                f"({entry['place']['boundary_recall']:.3f})"
            ),
            "best IoU ↑": f"{entry['best_iou']:.3f} ({entry['place']['best_iou']:.3f})",
            "near": f"{100 * entry['near']:.0f} %",
        }
        for path in paths
        for entry in read(path, CELLS)["cells"]
    )


TABLES: dict[str, Callable[[list[Path], str], str]] = {
    "results": results_table,
    "families": families_table,
    "models": models_table,
    "networks": networks_table,
    "heads": heads_table,
    "cells": cells_table,
    "runs": runs_table,
    "reproduction": reproduction_table,
    **{kind: partial(quality_table, kind) for kind in QUALITY},
}
PLACE = re.compile(
    rf"<!-- (?P<pending>pending )?(?P<kind>{'|'.join(TABLES)}): (?P<names>\S+)"
    r"(?: (?P<option>\S+))? -->\n.*?<!-- end -->",
    re.DOTALL,
)


def fill(text: str, folder: Path) -> tuple[str, int]:
    """Fill the tables of a page from a folder of results; how many there are.

    Raises:
        OSError: A file is missing.
        ValueError: A file holds other results.
    """

    def filled(place: re.Match) -> str:
        paths = [folder / name for name in place["names"].split(",")]
        if place["pending"] and not all(path.is_file() for path in paths):
            return place[0]
        words = " ".join(filter(None, (place["names"], place["option"])))
        rows = TABLES[place["kind"]](paths, place["option"] or "")
        return f"<!-- {place['kind']}: {words} -->\n{rows}<!-- end -->"

    return PLACE.subn(filled, text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder with the results")
    parser.add_argument("pages", type=Path, nargs="+", help="pages, changed in place")
    args = parser.parse_args()
    try:
        texts = {page: page.read_text(encoding="utf-8") for page in args.pages}
        pages = {page: fill(text, args.results) for page, text in texts.items()}
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for page, (text, count) in pages.items():
        write_text(page, text)
        print(f"{page}: {count} tables")


if __name__ == "__main__":
    run_tool(main)
