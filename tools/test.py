"""Evaluate a checkpoint of any task with MMEngine's runner."""

import argparse
import inspect
import os
import sys
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.registry import HOOKS, METRICS, init_default_scope

from cluenet_mm.checkpoint import CheckpointError
from cluenet_mm.engine.cli import (
    add_common_arguments,
    build_runner,
    fail,
    is_first_process,
    load_config,
    parse_arguments,
)
from cluenet_mm.engine.distributed import finish

# mmdet's own writer keeps masks run-length encoded: raw ones fill the memory.
PREDICTION_WRITERS = {"mmdet": "mmdet.DumpDetResults"}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="path or name of a config")
    parser.add_argument("checkpoint", help="path or link of a checkpoint")
    add_common_arguments(parser)
    parser.add_argument(
        "--out", metavar="FILE.pkl", help="write the predictions of every sample here"
    )
    parser.add_argument("--show-dir", help="folder for images with their predictions")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation, with tta_model and tta_pipeline of the config",
    )
    args = parse_arguments(parser)
    if args.out and not args.out.endswith((".pkl", ".pickle")):
        parser.error("argument --out: expected a name that ends in .pkl")
    return args


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the switches of the command line into the config."""
    if (
        "://" not in args.checkpoint
        and not Path(args.checkpoint).expanduser().is_file()
    ):
        raise FileNotFoundError(f"checkpoint {args.checkpoint} does not exist")
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


def show(cfg: Config, folder: str) -> None:
    """Turn on the visualization hook of the config, for every image.

    The libraries' hooks agree on the place, not on the names of their options, so
    those that the hook of this config takes are set. A hook without a folder (mmseg's)
    draws through the visualizer.
    """
    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise ValueError(
            "--show-dir needs default_hooks.visualization in the config, for example "
            "dict(type='VisualizationHook') with mmpretrain"
        )
    with HOOKS.switch_scope_and_registry(cfg.get("default_scope")) as hooks:
        options = inspect.signature(hooks.get(hook.type)).parameters
    chosen = {"enable": True, "draw": True, "interval": 1}
    chosen |= {"out_dir": folder, "test_out_dir": folder}
    hook.update({name: value for name, value in chosen.items() if name in options})
    if not {"out_dir", "test_out_dir"} & options.keys():
        cfg.setdefault("visualizer", ConfigDict(type="Visualizer")).save_dir = folder


def use_tta(cfg: Config) -> None:
    """Wrap the model for test-time augmentation and exchange the pipeline."""
    for name in ("tta_model", "tta_pipeline"):
        if name not in cfg:
            raise ValueError(f"--tta needs {name} in the config")
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def prediction_writer(cfg: Config, path: Path) -> BaseMetric:
    """Build the metric that writes predictions instead of judging them."""
    kind = PREDICTION_WRITERS.get(cfg.get("default_scope"), "DumpResults")
    return METRICS.build({"type": kind, "out_file_path": str(path)})


def test(cfg: Config, out: Path | None) -> None:
    """Test, and write the predictions to ``out``."""
    try:
        runner = build_runner(cfg)
        if out is not None:
            partial = out.with_suffix(".partial.pkl")
            out.parent.mkdir(parents=True, exist_ok=True)
            runner.test_evaluator.metrics.append(prediction_writer(cfg, partial))
        runner.test()
    except CheckpointError as error:
        fail(error)
    if out is not None and is_first_process():
        partial.replace(out)


def main() -> int:
    """Run the script and return its exit status."""
    args = parse_args()
    try:
        cfg = load_config(args)
        init_default_scope(cfg.get("default_scope", "mmengine"))
        apply_options(cfg, args)
    except (FileNotFoundError, ValueError) as error:
        fail(error)
    test(cfg, Path(args.out) if args.out else None)
    finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
