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
import copy
import ctypes
import fcntl
import hashlib
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
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from cluenet_mm import tool_path
from cluenet_mm.analysis.reproduction import (
    NETWORKS,
    PROTOCOLS,
    Protocol,
    compose,
    table,
)
from cluenet_mm.analysis.runs import read_records, read_run
from cluenet_mm.datasets.cifar100 import Source, prepare, read_source
from cluenet_mm.engine import build_model
from cluenet_mm.engine.cli import fail
from cluenet_mm.files import write_text

PACKAGES = ("torch", "mmengine", "mmcv", "mmpretrain", "cluenet_mm")
ACCURACY = "accuracy/top1"
# Loaded here: between fork and exec nothing should be.
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


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


class Device(NamedTuple):
    """Where a run takes place.

    Attributes:
        name: For this process: ``"cpu"`` or ``"cuda:N"``.
        visible: ``CUDA_VISIBLE_DEVICES`` of training, which sees this device alone.
            It cannot be changed for this process: PyTorch has looked already.
    """

    name: str
    visible: str


def choose_device(name: str | None) -> Device:
    """Find the device of ``--device``.

    Raises:
        ValueError: There is no such device.
    """
    count = torch.cuda.device_count()
    name = name or ("cuda" if count else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"--device {name}: it is cpu, cuda or cuda:N")
    if name == "cpu":
        return Device(name, "")
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise ValueError(f"--device {name}: PyTorch finds {count} GPUs")
    lent = [x for x in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if x]
    return Device(f"cuda:{number}", lent[number] if lent else str(number))


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
        ValueError: It is damaged, lacks classes or images of the protocol, or ``out``
            was begun with another one.
    """
    folder = out / "data" / protocol
    note = folder / "source.json"
    found = read_source(source)
    about = {"kind": found.kind, "md5": found.md5}
    arrays = [folder / f"{split}.npz" for split in found.splits]
    if note.is_file() and all(path.is_file() for path in arrays):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known | about == known:
            return known
        raise ValueError(f"{folder} comes from another source; choose another --out")
    about["classes"] = PROTOCOLS[protocol].classes
    check_complete(found, PROTOCOLS[protocol])
    counts = prepare(found, folder, about["classes"])
    about |= {f"{split}_images": count for split, count in counts.items()}
    write_text(note, json.dumps(about, indent=1) + "\n")
    return about


def check_complete(source: Source, protocol: Protocol) -> None:
    """Ask for all images that a protocol's numbers are about.

    Raises:
        ValueError: There are others.
    """
    classes = protocol.classes
    if len(source.classes) < classes:
        raise ValueError(
            f"the source has {len(source.classes)} classes, the protocol {classes}"
        )
    for split, wanted in protocol.images_per_class.items():
        labels = source.splits[split].labels
        counts = np.bincount(labels, minlength=classes)[:classes]
        if wrong := np.flatnonzero(counts != wanted).tolist():
            raise ValueError(
                f"class {source.classes[wrong[0]]} of the source has "
                f"{counts[wrong[0]]} {split} images, CIFAR-100 {wanted}"
            )


class Run:
    """One network with one seed in the folder of all runs."""

    def __init__(self, out: Path, network: str, protocol: str, seed: int) -> None:
        self.out, self.network, self.protocol = out, network, protocol
        self.name = f"{protocol}_{network}_seed{seed}"
        self.work_dir = out / "runs" / self.name
        self.result = out / "results" / f"{self.name}.json"
        self.cfg = compose(network, protocol, seed, f"data/{protocol}")
        # Taken at once: what builds from a config writes into it.
        self.fingerprint = fingerprint(self.cfg)
        stem = "cls_cifar100" if protocol == "full" else f"cls_cifar100_{protocol}"
        self.config = self.work_dir / "composed" / f"{stem}.py"
        self.epochs = self.cfg.train_cfg.max_epochs

    def is_finished(self) -> bool:
        """Whether there are results.

        Raises:
            RunError: They are of another config, or damaged.
        """
        if not self.result.is_file():
            return False
        if read_result(self.result).get("config_sha256") != self.fingerprint:
            raise RunError(
                f"{self.result} is of another config; remove it or choose another --out"
            )
        return True

    def train(self, data: dict, device: Device) -> None:
        """Train from where the run stands, and write its results.

        Raises:
            RunError: It cannot begin, or training failed.
        """
        with self._lock() as lock:
            if not self.config.is_file():
                write_text(self.config, self.cfg.pretty_text)
            elif fingerprint(Config.fromfile(self.config)) != self.fingerprint:
                raise RunError(
                    f"{self.work_dir} was begun with another config; remove it or "
                    "choose another --out"
                )
            speed = self._measure(device.name)
            if len(self._evaluated()) < self.epochs:
                self._start(lock, device)
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

    def _start(self, lock: int, device: Device) -> None:
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
                env={**os.environ, "CUDA_VISIBLE_DEVICES": device.visible},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(lock,),
                start_new_session=True,
                preexec_fn=end_with_parent,
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
        settings = copy.deepcopy(self.cfg.train_dataloader)
        settings.dataset.path = str(self.out / settings.dataset.path)
        loader = Runner.build_dataloader(settings, seed=0)
        preprocessor = MODELS.build(self.cfg.data_preprocessor).to(device)

        def images_per_second(augment: bool) -> float:
            start = time.perf_counter()
            for batch in loader:
                if augment:
                    preprocessor(batch, training=True)
            if device != "cpu":
                torch.cuda.synchronize(device)
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
            "config": NETWORKS[self.network].config,
            "config_sha256": self.fingerprint,
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


def read_result(path: Path) -> dict:
    """Read what a run left.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); remove it") from error


def fingerprint(cfg: Config) -> str:
    """Checksum of what a config says, however it is laid out."""
    text = json.dumps(cfg.to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_tables(out: Path, protocol: str) -> Path:
    """Bring all finished runs of a protocol together; returns the table's path.

    Raises:
        RunError: A result is damaged.
    """
    paths = sorted((out / "results").glob(f"{protocol}_*.json"))
    runs = [read_result(path) for path in paths]
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


def end_with_parent() -> None:
    """Ask Linux to end this child if its parent is killed and cannot do so."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(number: int, frame: Any) -> None:
    """Treat a request to end as Ctrl-C."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the command line and return its exit status: 1 if a run failed."""
    args = parse_args()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup wants it
        signal.signal(signal.SIGHUP, stop)
    out, failed = args.out.resolve(), False
    try:
        device = choose_device(args.device)
        data = unpack(args.data, out, args.protocol)
    except (OSError, ValueError) as error:
        fail(error)
    say(
        f"{data['train_images']:,} training and {data['test_images']:,} test images "
        f"({data['kind']}), on {device.name}"
    )
    for network, seed in runs_of(args):
        run = Run(out, network, args.protocol, seed)
        try:
            if run.is_finished():
                say(f"{run.name}: finished already")
                continue
            run.train(data, device)
            say(f"{run.name}: finished")
            write_tables(out, args.protocol)
        except (RunError, OSError, ValueError, torch.OutOfMemoryError) as error:
            say(f"{run.name}: {error}")
            failed = True
        except KeyboardInterrupt:
            say(f"{run.name}: interrupted; the same command goes on")
            return 130
    try:  # also where all of it was finished already
        page = write_tables(out, args.protocol)
    except (RunError, OSError) as error:
        say(str(error))
        failed = True
    if not failed:
        say(f"the table: {page}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
