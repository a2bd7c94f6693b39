"""Publish the weights of a run under a name: they become ``cluenet_mm://NAME``.

The weights of CHECKPOINT (the averaged ones, if the run averaged) are rounded to half
precision and tested with the config of the run; file and table entry go into
cluenet_mm/weights.

Example: python tools/dev/publish_weights.py work_dirs/run/epoch_45.pth \
    cluenet/cls_cifar100.py cluenet_micro_cifar100 --dataset CIFAR-100 --commit 8d6d4ad
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch import Tensor, nn

from cluenet_mm import __version__, config_path, weights
from cluenet_mm.checkpoint import (
    CheckpointError,
    check_resume,
    check_weights,
    dataset_meta,
    load_checkpoint,
    save_checkpoint,
)
from cluenet_mm.files import write_text
from cluenet_mm.guard import run_tool
from cluenet_mm.inference import build_model
from cluenet_mm.package_data import config_name

MAX_SIZE = 8_000_000  # bytes of a file in the package


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="an epoch_*.pth")
    parser.add_argument("config", help="name of the config to use the weights with")
    parser.add_argument("name", help="name of the weights, such as cluenet_tiny_in1k")
    parser.add_argument(
        "--trained-with", metavar="CONFIG", help="config of the run (default: CONFIG)"
    )
    parser.add_argument(
        "--dataset",
        help="what the run learned (default: the class of CONFIG's test data)",
    )
    parser.add_argument(
        "--commit", help="commit that the run was trained with (default: the current)"
    )
    parser.add_argument(
        "--link",
        metavar="FOLDER",
        help="https folder that the file will be put into, instead of the package; it "
        "is written into the current folder",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="KEY=VALUE",
        help="settings of the test, such as where the data lie",
    )
    return parser.parse_args()


def in_half_precision(model: nn.Module, loaded: dict, source: str) -> dict[str, Tensor]:
    """The weights of a model, rounded.

    Raises:
        CheckpointError: They do not fit, or are too large for half precision.
    """
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in check_weights(model, loaded, source).items()
    }
    check_weights(model, state, f"{source} in half precision")
    return state


def measure(
    cfg: Config, state: dict[str, Tensor]
) -> tuple[dict[str, float], list[str]]:
    """Test weights with a config.

    Returns:
        The metrics, and the names of the classes.
    """
    cfg = cfg.copy()
    with tempfile.TemporaryDirectory() as folder:
        cfg.update(work_dir=folder, load_from=None, resume=False)
        runner = Runner.from_cfg(cfg)
        runner.model.load_state_dict(state)
        metrics = {name: float(value) for name, value in runner.test().items()}
        classes = runner.test_dataloader.dataset.metainfo["classes"]
    return metrics, list(map(str, classes))


def describe(args: argparse.Namespace, cfg: Config, loaded: dict) -> dict:
    """Where the weights of a checkpoint come from."""
    commit = args.commit
    if commit is None:
        words = ["git", "-C", str(Path(__file__).parent), "describe", "--always"]
        words += ["--dirty", "--exclude=*", "--abbrev=40"]
        commit = subprocess.run(words, capture_output=True, text=True).stdout.strip()
    meta = loaded["meta"]
    return {
        "name": args.name,
        "config": config_name(config_path(args.config)),
        "trained_with": args.trained_with or args.config,
        "commit": commit,
        "version": __version__,
        "dataset": args.dataset or str(cfg.test_dataloader.dataset.type),
        "epochs": meta["epoch"],
        "iterations": meta["iter"],
        "seed": meta.get("seed"),
        "averaged": "ema_state_dict" in loaded,
    }


def publish(
    state: dict[str, Tensor], classes: list[str], origin: dict, link: str | None = None
) -> Path:
    """Write the file and its entry in the table.

    Args:
        state: Weights in half precision.
        classes: Names of the classes.
        origin: Where they come from, with ``name``, ``config`` and ``metrics``.
        link: See ``--link``.

    Returns:
        The file, named by its hash, as PyTorch's hub expects it.

    Raises:
        ValueError: It is too large for the package.
    """
    name = origin["name"]
    meta = {"dataset_meta": {"classes": classes}, "published": origin}
    folder = Path() if link else weights.FOLDER
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        draft = Path(temporary, "weights.pth")
        save_checkpoint({"state_dict": state, "meta": meta}, draft)
        torch.load(draft, weights_only=True)  # which needs no list of ours
        size = draft.stat().st_size
        if not link and size > MAX_SIZE:
            raise ValueError(
                f"cannot publish {name}: its file has {size:,} bytes, and the package "
                f"takes {MAX_SIZE:,}. Give --link."
            )
        sha256 = hashlib.sha256(draft.read_bytes()).hexdigest()
        path = draft.replace(folder / f"{name}-{sha256[:8]}.pth")
    table = weights.published()
    old = table.get(name)
    file = f"{link.rstrip('/')}/{path.name}" if link else path.name
    table[name] = weights.PublishedWeights(origin["config"], file, sha256, size)
    entries = {name: asdict(table[name]) for name in sorted(table)}
    write_text(weights.FOLDER / "table.json", json.dumps(entries, indent=2) + "\n")
    if old and old.file != file:
        (weights.FOLDER / old.file).unlink(missing_ok=True)
    return path


def main() -> None:
    """Run the command line."""
    args = parse_args()
    try:
        loaded = load_checkpoint(args.checkpoint)
        check_resume(loaded, args.checkpoint)
        model = build_model(Config.fromfile(config_path(args.config)))
        state = in_half_precision(model, loaded, args.checkpoint)
        cfg = Config.fromfile(config_path(args.trained_with or args.config))
        cfg.merge_from_dict(args.cfg_options)
        origin = describe(args, cfg, loaded)
        origin["metrics"], classes = measure(cfg, state)
        classes = list(dataset_meta(loaded).get("classes", classes))
        path = publish(state, classes, origin, args.link)
    except (CheckpointError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{path}: {path.stat().st_size:,} bytes")
    print(json.dumps(origin, indent=2))
    print(f"in the metafile of {origin['config']}: Weights: cluenet_mm://{args.name}")


if __name__ == "__main__":
    run_tool(main)
