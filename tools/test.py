"""Evaluate a checkpoint of any task with MMEngine's runner."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from cluenet_mm.building import BuildError, building
from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.cli import (
    add_run_arguments,
    fail,
    output_file,
    output_folder,
    parse_arguments,
)
from cluenet_mm.data_errors import DataError
from cluenet_mm.datasets.check import refuse_unusable
from cluenet_mm.files import WriteError
from cluenet_mm.guard import run_tool
from cluenet_mm.inference.predictions import (
    PICKLES,
    pickle_predictions,
    publishing,
    staging_folder,
    write_by_metric,
)
from cluenet_mm.inference.tta import use_tta
from cluenet_mm.runner import build_runner, check_checkpoint, load_config
from cluenet_mm.summary import results, summary
from cluenet_mm.tasks import task_of
from cluenet_mm.training.distributed import finish, say


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="path or link of a checkpoint")
    add_run_arguments(parser)
    parser.add_argument(
        "--out",
        type=output,
        metavar="PATH",
        help="write the predictions: FILE.pkl holds those of any task as they are; "
        "FILE.json becomes FILE.bbox.json and FILE.segm.json in the format of COCO's "
        "results (detection), or FILE.panoptic.json and the folder FILE.panoptic of "
        "PNGs (panoptic segmentation); a folder gets one PNG of labels an image, "
        "numbered as in the dataset's own annotations (segmentation)",
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
    check_checkpoint(args.checkpoint)
    for name in ("test_dataloader", "test_cfg", "test_evaluator"):
        if cfg.get(name) is None:
            raise ValueError(f"cannot test with config {args.config}: it has no {name}")
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
        write_by_metric(cfg, args.out, staging_folder(args.out))


def show(cfg: Config, folder: str) -> None:
    """Have every image drawn, by a hook that treats the three tasks alike."""
    task_of(cfg)  # which must be known
    hook = ConfigDict(type="cluenet_mm.DrawPredictionsHook", out_dir=folder)
    libraries_own = (cfg.get("default_hooks") or {}).get("visualization") or {}
    if "score_thr" in libraries_own:
        hook.score_thr = libraries_own.score_thr
    cfg.custom_hooks.append(hook)


def test(cfg: Config, out: Path | None) -> None:
    """Test, and write the predictions to ``out``."""
    with publishing(out):
        runner = build_runner(cfg, "test")
        if out and out.suffix in PICKLES:
            pickle_predictions(runner, staging_folder(out) / out.name)
        say(summary(runner, "test"))
        with building(cfg):
            found = runner.test()
        say(results("Result", found))


def main() -> int:
    """Run the script and return its exit status."""
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        init_default_scope(cfg.get("default_scope", "mmengine"))
        apply_options(cfg, args)
        refuse_unusable(cfg, "test")
    except (OSError, ValueError) as error:
        fail(error)
    try:
        test(cfg, args.out)
    except (BuildError, CheckpointError, DataError, WriteError) as error:
        fail(error)
    finish()
    return 0


if __name__ == "__main__":
    run_tool(main)
