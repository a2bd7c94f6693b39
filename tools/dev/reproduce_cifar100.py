"""Train the networks on CIFAR-100 in memory and write what they reach to one file.

The same command continues after an interruption, from the last epoch that was
evaluated; runs that are finished are left alone.

Example:
    python tools/dev/cifar100_npz.py
    python tools/dev/reproduce_cifar100.py --json docs/results/cifar100_full.json
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from collect_runs import read_records, read_run
from mmengine.config import Config

from cluenet_mm import config_path, tool_path
from cluenet_mm.files import write_text
from cluenet_mm.flops import build
from cluenet_mm.guard import run_tool

CONFIGS = (
    "cluenet/cls_cifar100_memory",
    "coc/cls_cifar100_memory",
    "fec/cls_cifar100_memory",
    "clusterformer/cls_cifar100_memory",
    "baselines/resnet18_cifar100_memory",
)
ACCURACY = "accuracy/top1"


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="file of results")
    parser.add_argument("--out", type=Path, default="work_dirs/cifar100")
    parser.add_argument(
        "--data",
        type=Path,
        default="data/cifar100",
        help="folder with train.npz and test.npz (default: data/cifar100)",
    )
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the configs; the learning rate follows the batch size",
    )
    return parser.parse_args()


def evaluated(work_dir: Path) -> set[int]:
    """Epochs whose accuracy is in the logs."""
    return {r["step"] for r in read_records(work_dir) if ACCURACY in r}


def train(config: str, seed: int, work_dir: Path, options: list[str]) -> None:
    """Train one network from where it stands.

    MMEngine saves before it evaluates. Resuming from the newest checkpoint could leave
    out an accuracy, so that of the last epoch that was evaluated is taken.

    Raises:
        CalledProcessError: Training failed.
    """
    kept = [e for e in evaluated(work_dir) if (work_dir / f"epoch_{e}.pth").is_file()]
    command = [sys.executable, tool_path("train.py"), config, "--work-dir", work_dir]
    if kept:
        command += ["--resume", work_dir / f"epoch_{max(kept)}.pth"]
    command += ["--auto-scale-lr", "--cfg-options", f"randomness.seed={seed}", *options]
    subprocess.run(list(map(str, command)), check=True)


def is_finished(work_dir: Path) -> bool:
    """Whether the last epoch has been evaluated."""
    epochs = max(evaluated(work_dir), default=0)
    dumped = next(work_dir.glob("*.py"), None)
    return bool(epochs) and epochs == Config.fromfile(dumped).train_cfg.max_epochs


def describe(config: str, work_dir: Path) -> dict:
    """What a run reached, by epoch, with the size of its network."""
    cfg = Config.fromfile(next(work_dir.glob("*.py")))
    model = build(cfg.model, cfg.default_scope)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {**read_run(work_dir), "config": config, "parameters": parameters}


def main() -> int:
    """Run the command line and return its exit status: 1 if a run failed."""
    args = parse_args()
    try:
        with np.load(args.data / "train.npz") as arrays:
            classes = len(arrays["classes"])
        for config in args.configs:
            config_path(config)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    options = [f"model.head.num_classes={classes}", *args.options]
    options.append(f"data_preprocessor.num_classes={classes}")
    for name, split in (("train", "train"), ("val", "test"), ("test", "test")):
        options.append(f"{name}_dataloader.dataset.path={args.data / split}.npz")
    results = {"options": sorted(options), "runs": []}
    note = args.out / "options.json"
    for path in (note, args.json):
        if path.is_file():
            old = json.loads(path.read_text(encoding="utf-8"))
            if old.get("options") != results["options"]:
                sys.exit(f"error: {path} is of runs with other options. Name another.")
            results = old
    write_text(note, json.dumps({"options": results["options"], "runs": []}) + "\n")
    runs = {(run["config"], run["seed"]): run for run in results["runs"]}
    failed = 0
    for seed in args.seeds:
        for config in args.configs:
            work_dir = args.out / f"{config.replace('/', '_')}_seed{seed}"
            try:
                if not is_finished(work_dir):
                    train(config, seed, work_dir, options)
                run = runs[config, seed] = describe(config, work_dir)
            except (subprocess.CalledProcessError, OSError, ValueError) as error:
                print(f"{config}, seed {seed}: {error}", file=sys.stderr)
                failed = 1
                continue
            results["runs"] = list(runs.values())
            write_text(args.json, json.dumps(results) + "\n")
            top1 = run["metrics"][-1][ACCURACY]
            print(f"{config}, seed {seed}: top-1 {top1:.2f}", flush=True)
    return failed


if __name__ == "__main__":
    run_tool(main, "the same command continues")
