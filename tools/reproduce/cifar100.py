"""Train the networks on CIFAR-100 and set the results beside the papers'.

The same command goes on after any interruption, from the last epoch that was evaluated;
runs that are finished are left alone. OUT holds:

    results/<run>.json             one file a run: accuracy of every epoch, time, speed
    cifar100_<protocol>.{json,md}  all runs of the protocol, and the table
    runs/<run>/                    logs and checkpoints; composed/ has the config
    data/<protocol>/               the images as arrays

Example:
    python tools/reproduce/cifar100.py --data cifar-100-python.tar.gz --out work_dirs/r
"""

import argparse
import fcntl
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from cluenet_mm import tool_path
from cluenet_mm.analysis.reproduction import (
    NETWORKS,
    PROTOCOLS,
    compose,
    table,
)
from cluenet_mm.analysis.runs import read_records, read_run
from cluenet_mm.datasets.cifar100 import prepare, read_source
from cluenet_mm.engine import build_model
from cluenet_mm.engine.cli import fail
from cluenet_mm.files import write_text

PACKAGES = ("torch", "mmengine", "mmcv", "mmpretrain", "cluenet_mm")
ACCURACY = "accuracy/top1"


class RunError(RuntimeError):
    """One run cannot go on; the others can."""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="the official archive, a folder that holds it, or one with class strips",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="full")
    parser.add_argument(
        "--models", nargs="+", choices=NETWORKS, help="default: all of the protocol"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="default: those of the protocol"
    )
    parser.add_argument(
        "--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)"
    )
    return parser.parse_args()


def choose_device(name: str | None) -> str:
    """Make the device the only one of this process and its children.

    Raises:
        ValueError: There is no such device.
    """
    if name is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"--device {name}: it is cpu, cuda or cuda:N")
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif name is not None:
        _, colon, number = name.partition(":")
        if colon:
            lent = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            at = int(number)
            number = number if lent == [""] else "".join(lent[at : at + 1])
            os.environ["CUDA_VISIBLE_DEVICES"] = number
        if not torch.cuda.is_available():
            raise ValueError(f"--device {name}: PyTorch finds no such GPU")
    return "cuda" if torch.cuda.is_available() else "cpu"


def runs_of(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Pairs of network and seed that the command line asks for."""
    runs = PROTOCOLS[args.protocol].runs
    names = args.models or list(NETWORKS)
    if args.seeds is None:
        return [(name, seed) for name, seed in runs if name in names]
    return [(name, seed) for seed, name in product(args.seeds, names)]


def unpack(source: Path, out: Path, protocol: str) -> dict:
    """Bring the images of a protocol into ``out``, unless they are there.

    Returns:
        What they are, for the results.

    Raises:
        FileNotFoundError: There is no source.
        ValueError: It is damaged, or ``out`` was begun with another one.
    """
    folder = out / "data" / protocol
    note = folder / "source.json"
    found = read_source(source)
    about = {"kind": found.kind, "md5": found.md5}
    if note.is_file():
        known = json.loads(note.read_text(encoding="utf-8"))
        if known | about == known:
            return known
        raise ValueError(f"{folder} comes from another source; choose another --out")
    counts = prepare(found, folder, PROTOCOLS[protocol].classes)
    about["classes"] = PROTOCOLS[protocol].classes or len(found.classes)
    about |= {f"{split}_images": count for split, count in counts.items()}
    write_text(note, json.dumps(about, indent=1) + "\n")
    return about


class Run:
    """One network with one seed in the folder of all runs."""

    def __init__(self, out: Path, network: str, protocol: str, seed: int) -> None:
        self.out, self.network, self.protocol = out, network, protocol
        self.name = f"{protocol}_{network}_seed{seed}"
        self.work_dir = out / "runs" / self.name
        self.result = out / "results" / f"{self.name}.json"
        self.cfg = compose(network, protocol, seed, f"data/{protocol}")
        stem = "cls_cifar100" if protocol == "full" else f"cls_cifar100_{protocol}"
        self.config = self.work_dir / "composed" / f"{stem}.py"
        self.epochs = self.cfg.train_cfg.max_epochs

    def train(self, data: dict, device: str) -> None:
        """Train from where the run stands, and write its results.

        Raises:
            RunError: It cannot begin, or training failed.
        """
        with self._lock() as lock:
            text = self.cfg.pretty_text
            if not self.config.is_file():
                write_text(self.config, text)
            elif self.config.read_text(encoding="utf-8") != text:
                raise RunError(
                    f"{self.work_dir} was begun with another config; remove it or "
                    "choose another --out"
                )
            speed = self._measure(device)
            if len(self._evaluated()) < self.epochs:
                self._start(lock)
            write_text(self.result, json.dumps(self._record(data, speed)) + "\n")

    @contextmanager
    def _lock(self) -> Any:
        """Keep other processes out; the training process inherits the lock."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        with (self.work_dir / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError("another process is training it") from None
            yield file.fileno()

    def _start(self, lock: int) -> None:
        words = [sys.executable, tool_path("train.py"), self.config, "--work-dir"]
        words.append(self.work_dir)
        if epoch := self._whole_epoch():
            words += ["--resume", self.work_dir / f"epoch_{epoch}.pth"]
            say(f"{self.name}: goes on after epoch {epoch} of {self.epochs}")
        console = self.work_dir / "console.log"
        relative = [
            str(word.relative_to(self.out))
            if isinstance(word, Path) and word.is_relative_to(self.out)
            else str(word)
            for word in words
        ]
        with (
            console.open("a", encoding="utf-8") as log,
            # A session of its own: Ctrl-C reaches this process, which ends the other.
            subprocess.Popen(
                relative,
                cwd=self.out,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(lock,),
                start_new_session=True,
            ) as process,
        ):
            try:
                last = self._follow(process, log)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise RunError(f"training failed ({last}); all of it stands in {console}")

    def _follow(self, process: subprocess.Popen, log: Any) -> str:
        """Keep what training prints and say where it stands; returns its last line."""
        started, last = time.monotonic(), ""
        for line in process.stdout:
            log.write(line)
            log.flush()
            last = line.strip() or last
            if ACCURACY in line and "Epoch(val)" in line:
                epoch = re.search(r"Epoch\(val\) \[(\d+)\]", line)[1]
                top1 = float(re.search(rf"{ACCURACY}: ([\d.]+)", line)[1])
                minutes = (time.monotonic() - started) / 60
                say(
                    f"{self.name}: epoch {epoch} of {self.epochs}, top-1 {top1:.2f}, "
                    f"{minutes:.1f} minutes"
                )
        return last

    def _evaluated(self) -> set[int]:
        """Epochs whose accuracy is in the logs."""
        return {r["step"] for r in read_records(self.work_dir) if ACCURACY in r}

    def _whole_epoch(self) -> int:
        """Last epoch that has both a checkpoint and its accuracy, or 0.

        MMEngine saves before it evaluates: going on from the newest checkpoint would
        leave out the accuracy of an epoch that was interrupted in between.
        """
        epochs = self._evaluated()
        while epochs and not (self.work_dir / f"epoch_{max(epochs)}.pth").is_file():
            epochs.remove(max(epochs))
        return max(epochs, default=0)

    def _measure(self, device: str) -> dict[str, float]:
        """Images a second of the loader, alone and with the work on the device."""
        init_default_scope(self.cfg.default_scope)
        settings = self.cfg.train_dataloader.copy()
        settings.dataset.path = str(self.out / settings.dataset.path)
        loader = Runner.build_dataloader(settings, seed=0)
        preprocessor = MODELS.build(self.cfg.data_preprocessor).to(device)

        def images_per_second(augment: bool) -> float:
            start = time.perf_counter()
            for batch in loader:
                if augment:
                    preprocessor(batch, training=True)
            if augment and device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            return round(len(loader.dataset) / seconds, 1)

        images_per_second(True)  # the first pass loads libraries
        return {
            "loader": images_per_second(False),
            "loader_and_augmentation": images_per_second(True),
        }

    def _record(self, data: dict, speed: dict[str, float]) -> dict:
        batch = self.cfg.train_dataloader.batch_size
        times = [r["time"] for r in read_records(self.work_dir) if "loss" in r]
        parameters = build_model(self.cfg).parameters()
        modules = {name: importlib.import_module(name) for name in PACKAGES}
        return {
            **read_run(self.work_dir),
            "network": self.network,
            "protocol": self.protocol,
            "data": data,
            "epochs": self.epochs,
            "batch_size": batch,
            "learning_rate": self.cfg.optim_wrapper.optimizer.lr,
            "parameters": sum(p.numel() for p in parameters),
            "threads": torch.get_num_threads(),
            "versions": {name: module.__version__ for name, module in modules.items()},
            "wall_hours": round(self._wall_seconds() / 3600, 4),
            # The steps with loading, forward, backward, optimiser and log.
            "images_per_second": {**speed, "training": round(batch / median(times), 1)},
        }

    def _wall_seconds(self) -> float:
        """First to last line of every start's log: evaluations and repeats included."""
        total = 0.0
        for path in self.work_dir.glob("*/*.log"):
            text = path.read_text(encoding="utf-8", errors="replace")
            stamps = re.findall(r"^(\d{4}(?:/\d\d){2} [\d:]{8}) - ", text, re.MULTILINE)
            if stamps:
                times = [datetime.strptime(s, "%Y/%m/%d %H:%M:%S") for s in stamps]
                total += (times[-1] - times[0]).total_seconds()
        return total


def write_tables(out: Path, protocol: str) -> Path:
    """Bring all finished runs of a protocol together; returns the table's path."""
    paths = sorted((out / "results").glob(f"{protocol}_*.json"))
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    results = {"protocol": protocol, "runs": runs}
    lines = ",\n".join(json.dumps(run) for run in runs)
    text = f'{{"protocol": "{protocol}", "runs": [\n{lines}\n]}}\n'
    write_text(out / f"cifar100_{protocol}.json", text)
    page = out / f"cifar100_{protocol}.md"
    write_text(page, f"# CIFAR-100, protocol {protocol}\n\n{table(results)}")
    return page


def say(message: str) -> None:
    """Print with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {message}", flush=True)


def stop(number: int, frame: Any) -> None:
    """Treat a request to end as Ctrl-C."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line and return its exit status: 1 if a run failed."""
    args = parse_args()
    signal.signal(signal.SIGTERM, stop)
    out, failed = args.out.resolve(), False
    try:
        device = choose_device(args.device)
        data = unpack(args.data, out, args.protocol)
    except (OSError, ValueError) as error:
        fail(error)
    say(
        f"{data['train_images']:,} training and {data['test_images']:,} test images "
        f"({data['kind']}), on {device}"
    )
    for network, seed in runs_of(args):
        name = f"{args.protocol}_{network}_seed{seed}"
        try:
            run = Run(out, network, args.protocol, seed)
        except FileNotFoundError as error:
            say(f"{name}: skipped, {error}")
            failed |= args.models is not None
            continue
        if run.result.is_file():
            say(f"{name}: finished already")
            continue
        try:
            run.train(data, device)
        except (RunError, ValueError) as error:
            say(f"{name}: {error}")
            failed = True
        except KeyboardInterrupt:
            say(f"{name}: interrupted; the same command goes on")
            return 130
        else:
            say(f"{name}: finished, {write_tables(out, args.protocol)}")
    write_tables(out, args.protocol)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
