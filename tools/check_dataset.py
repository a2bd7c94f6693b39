r"""Check the files of a config's datasets, before training.

Counts and the histogram of the classes; then the faults: missing and damaged files,
boxes outside their image or without area, masks that cannot be read, annotations of
unknown images or categories, classes that the annotations lack or list in another
order, sizes that differ, labels out of range, and where the config's model and
evaluators do not fit the data. Notes tell what pipeline and schedule make of the data.
Nothing is filtered: images without objects are counted too. The exit status is 1 if
there are faults.

Example: check_dataset.py cluenet/semantic_fpn_camvid --num-samples 8 --out-dir look
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import track_iter_progress

from cluenet_mm.cli import (
    add_cfg_options,
    fail,
    output_file,
    output_folder,
    parse_arguments,
    positive,
)
from cluenet_mm.config import read_config
from cluenet_mm.datasets.check import (
    DatasetError,
    Options,
    Report,
    check,
    choose_samples,
    labeled_sample,
    named_parts,
)
from cluenet_mm.files import path_inside, write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference.draw import build_visualizer, draw_sample

SPLITS = ("train", "val", "test")
SHOWN = 5
BAR = 40


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument(
        "--split", nargs="+", choices=SPLITS, help="(default: all that differ)"
    )
    parser.add_argument(
        "--num-samples",
        type=positive,
        help="draw so many samples of each split, all classes among them",
    )
    parser.add_argument(
        "--out-dir", type=output_folder, help="folder for the drawn samples"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write all faults"
    )
    parser.add_argument(
        "--no-decode",
        action="store_true",
        help="only look whether images are there, which is quicker (label maps are "
        "read all the same)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(os.cpu_count() or 1, 8),
        help="threads that read (default: %(default)s)",
    )
    add_cfg_options(parser, "train_dataloader.dataset.data_root=elsewhere")
    args = parse_arguments(parser)
    if bool(args.num_samples) != bool(args.out_dir):
        parser.error("--num-samples and --out-dir go together")
    return args


def splits_of(cfg: Config, asked: list[str] | None) -> dict[str, dict]:
    """Name and settings of every dataset; of equal ones, unasked, only the first."""
    found = {}
    for split in asked or [s for s in SPLITS if cfg.get(f"{s}_dataloader")]:
        for name, settings in named_parts(cfg, split).items():
            if not asked and settings in found.values():
                continue
            found[name] = settings
    if not found:
        raise DatasetError("cannot check the data: the config has no datasets")
    return found


def progress(items: list, total: int) -> Iterable:
    """A bar on a terminal, nothing in a log."""
    return track_iter_progress(items) if sys.stdout.isatty() and total else items


def print_report(report: Report) -> None:
    """Print what was found, faults last."""
    print(f"\n{report.name}: {report.kind}")
    for what, count in report.counts.items():
        print(f"  {count:>12,}  {what}")
    if report.histogram:
        print(f"  {report.unit} by class:")
        most = max(max(report.histogram.values()), 1)
        for name, count in report.histogram.items():
            bar = "#" * round(BAR * count / most)
            print(f"  {count:>12,}  {name:<20} {bar}".rstrip())
    empty = sum(count == 0 for count in report.histogram.values())
    if empty:
        print(f"  note: {empty} classes without {report.unit}")
    for note in report.notes:
        print(f"  note: {note}")
    for kind, places in report.faults.items():
        print(f"  FAULT: {kind} ({len(places):,})")
        for where in places[:SHOWN]:
            print(f"    {where}")
        if len(places) > SHOWN:
            print(f"    and {len(places) - SHOWN:,} more")
    if not report.faults:
        print("  no faults")


def main() -> int:
    """Run the command line and return its exit status."""
    args = parse_args()
    options = Options(not args.no_decode, args.workers, progress)
    reports = []
    try:
        cfg = read_config(args.config, args.cfg_options)
        for name, settings in splits_of(cfg, args.split).items():
            report, dataset = check(cfg, settings, name, options)
            print_report(report)
            reports.append(report)
            if dataset is not None and args.num_samples:
                draw(cfg, dataset, args.out_dir / name.replace(" ", "_"), args)
        if args.json:
            text = json.dumps([asdict(report) for report in reports], indent=1)
            write_text(args.json, text + "\n")
    except (OSError, ValueError) as error:
        fail(error)
    return int(any(report.faults for report in reports))


def draw(cfg: Config, dataset: object, folder: Path, args: argparse.Namespace) -> None:
    """Draw samples of all classes; those that cannot be read are among the faults."""
    visualizer = build_visualizer(cfg, dataset.metainfo)
    for index in choose_samples(dataset, args.num_samples):
        found = labeled_sample(dataset, cfg.default_scope, index)
        if found is not None:
            name, image, sample = found
            path = path_inside(folder, f"{name}.png")
            draw_sample(visualizer, image, sample, path, predictions=False)
    print(f"  samples are drawn in {folder}")


if __name__ == "__main__":
    run_tool(main, "the reports above are complete")
