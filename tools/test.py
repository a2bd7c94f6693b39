"""Evaluate a checkpoint of any task with MMEngine's runner."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS, init_default_scope
from mmengine.runner import Runner

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.config_types import type_name
from cluenet_mm.engine.cli import (
    add_common_arguments,
    build_runner,
    check_exists,
    fail,
    is_first_process,
    load_config,
    output_file,
    output_folder,
    parse_arguments,
)
from cluenet_mm.engine.distributed import finish
from cluenet_mm.engine.draw import VISUALIZER_TYPES

# mmdet's own writer keeps masks run-length encoded: raw ones fill the memory.
PICKLE_WRITERS = {"mmdet": "mmdet.DumpDetResults"}
TTA_MODELS = {
    "mmpretrain": "AverageClsScoreTTA",
    "mmdet": "cluenet_mm.InstanceTTAModel",
    "mmseg": "SegTTAModel",
}
PICKLES = (".pkl", ".pickle")
# Metrics that write files, and their option for the place.
WRITERS = {
    "CocoMetric": "outfile_prefix",
    "PanopticQuality": "outfile_prefix",
    "IoUMetric": "output_dir",
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="path or link of a checkpoint")
    add_common_arguments(parser)
    parser.add_argument(
        "--out",
        type=output,
        metavar="PATH",
        help="write the predictions: FILE.pkl holds those of any task as they are; "
        "FILE.json becomes FILE.bbox.json and FILE.segm.json in the format of COCO's "
        "results (detection), or FILE.panoptic.json and the folder FILE.panoptic of "
        "PNGs (panoptic segmentation); a folder gets one PNG of labels an image, "
        "numbered as in the data set's own annotations (segmentation)",
    )
    parser.add_argument(
        "--show-dir",
        type=output_folder,
        help="folder for images with their predictions, beside the labels where there "
        "are any (with several processes: the images of the first)",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation with tta_model and tta_pipeline of the config; "
        "without the latter, the image and its mirror image",
    )
    return parse_arguments(parser)


def output(text: str) -> Path:
    """Type of ``--out``."""
    suffix = Path(text).suffix
    if suffix not in ("", ".json", *PICKLES):
        raise argparse.ArgumentTypeError(
            "expected a name that ends in .pkl or .json, or a folder"
        )
    return output_file(text) if suffix else output_folder(text)


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the switches of the command line into the config."""
    check_exists(args.checkpoint)
    for name in ("test_dataloader", "test_cfg", "test_evaluator"):
        if cfg.get(name) is None:
            raise ValueError(f"config {args.config} cannot test: it has no {name}")
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.custom_hooks = [
        *(cfg.get("custom_hooks") or []),
        ConfigDict(type="cluenet_mm.StrictLoadHook"),
    ]
    if args.show_dir:
        show(cfg, os.path.abspath(args.show_dir))
    if args.tta:
        use_tta(cfg)
    if args.out and args.out.suffix not in PICKLES:
        ask_for_files(cfg, args.out, staging_folder(args.out))


def show(cfg: Config, folder: str) -> None:
    """Have every image drawn, by a hook that treats the three tasks alike."""
    if cfg.get("default_scope") not in VISUALIZER_TYPES:
        raise ValueError(
            "--show-dir needs default_scope in the config, one of "
            + ", ".join(VISUALIZER_TYPES)
        )
    hook = ConfigDict(type="cluenet_mm.DrawPredictionsHook", out_dir=folder)
    libraries_own = cfg.get("default_hooks", {}).get("visualization") or {}
    if "score_thr" in libraries_own:
        hook.score_thr = libraries_own.score_thr
    cfg.custom_hooks.append(hook)


def use_tta(cfg: Config) -> None:
    """Wrap the model for test-time augmentation and exchange the pipeline."""
    kind = TTA_MODELS.get(cfg.get("default_scope"))
    if "tta_model" not in cfg:
        if kind is None:
            raise ValueError("--tta needs tta_model in the config")
        if any("Panoptic" in type_name(metric) for metric in metrics_of(cfg)):
            raise ValueError(
                "--tta cannot merge the views of a panoptic segmentation; a tta_model "
                "of the config's own may"
            )
        cfg.tta_model = ConfigDict(type=kind)
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.get("tta_pipeline") or with_flips(dataset.pipeline)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def with_flips(pipeline: list[dict]) -> list[dict]:
    """A test pipeline that makes two views, of the image as it is and mirrored.

    The labels are those of the original image, so the flip comes before them.
    """
    loads = type_name(pipeline[0]) == "LoadImageFromFile"
    *steps, pack = pipeline[1:] if loads else pipeline
    kinds = [type_name(step) for step in steps]
    at = kinds.index("LoadAnnotations") if "LoadAnnotations" in kinds else len(steps)
    if "meta_keys" in pack:
        needed = (*pack.meta_keys, "flip", "flip_direction")
        pack = ConfigDict(pack, meta_keys=tuple(dict.fromkeys(needed)))
    flips = [ConfigDict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)]
    views = [[step] for step in steps]
    views = [*views[:at], flips, *views[at:], [pack]]
    augment = ConfigDict(type="TestTimeAug", transforms=views)
    return [pipeline[0], augment] if loads else [augment]


def ask_for_files(cfg: Config, out: Path, folder: Path) -> None:
    """Let the metric of the config write its files, COCO's JSON or label PNGs.

    Args:
        cfg: Changed in place.
        out: What ``--out`` says.
        folder: Where the metric writes.

    Raises:
        ValueError: The config has no metric that writes such files.
    """
    if out.suffix == ".json":
        kinds, place = ("CocoMetric", "PanopticQuality"), folder / out.stem
    else:
        kinds, place = ("IoUMetric",), folder
    # Of several metrics of a kind the first one writes.
    by_kind = {type_name(m): m for m in reversed(metrics_of(cfg))}
    chosen = [kind for kind in kinds if kind in by_kind]
    if not chosen:
        raise ValueError(
            f"--out {out} needs {' or '.join(kinds)} in test_evaluator of the config; "
            "FILE.pkl works with any"
        )
    for kind in chosen:
        by_kind[kind][WRITERS[kind]] = str(place)


def metrics_of(cfg: Config) -> list[ConfigDict]:
    """Settings of the metrics of a test."""
    evaluator = cfg.test_evaluator
    if isinstance(evaluator, dict):
        evaluator = evaluator.get("metrics", evaluator)
    return [evaluator] if isinstance(evaluator, dict) else list(evaluator)


def staging_folder(out: Path) -> Path:
    """Where the predictions lie until all are written."""
    return out.with_name(f".{out.name}.partial")


def pickle_predictions(runner: Runner, path: Path) -> None:
    """Add a metric that writes predictions instead of judging them."""
    kind = PICKLE_WRITERS.get(runner.cfg.get("default_scope"), "DumpResults")
    writer = METRICS.build({"type": kind, "out_file_path": str(path)})
    runner.test_evaluator.metrics.append(writer)


def publish(folder: Path, out: Path) -> None:
    """Move complete files and folders to their place."""
    target = out.parent if out.suffix else out
    target.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():  # which replaces no other folder
            shutil.rmtree(target / path.name, ignore_errors=True)
        path.replace(target / path.name)


def test(cfg: Config, out: Path | None) -> None:
    """Test, and write the predictions to ``out``."""
    folder = staging_folder(out) if out else None
    if out:
        if is_first_process():  # of a run that was killed
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    try:
        runner = build_runner(cfg, "test")
        if out and out.suffix in PICKLES:
            pickle_predictions(runner, folder / out.name)
        runner.test()
        if out and is_first_process():
            publish(folder, out)
    except CheckpointError as error:
        fail(error)
    finally:
        if out and is_first_process():
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run the script and return its exit status."""
    args = parse_args()
    try:
        cfg = load_config(args)
        init_default_scope(cfg.get("default_scope", "mmengine"))
        apply_options(cfg, args)
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    test(cfg, args.out)
    finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
