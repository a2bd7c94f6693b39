"""Predictions of a test as files: pickles, COCO's JSON, label maps."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import METRICS
from mmengine.runner import Runner

from ..config import metrics_of, type_name
from ..errors import is_first_process
from ..files import WriteError
from ..tasks import TASKS

__all__ = [
    "PICKLES",
    "pickle_predictions",
    "publish",
    "publishing",
    "staging_folder",
    "write_by_metric",
]

_NO_SPACE = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)
PICKLES = (".pkl", ".pickle")
# Metrics that write files, and their option for the place.
_WRITERS = {
    "CocoMetric": "outfile_prefix",
    "PanopticQuality": "outfile_prefix",
    "IoUMetric": "output_dir",
}


def write_by_metric(cfg: Config, out: Path, folder: Path) -> None:
    """Let the metric of the config write its files, COCO's JSON or label PNGs.

    Args:
        cfg: Changed in place.
        out: ``FILE.json``, or a folder of label maps.
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
        by_kind[kind][_WRITERS[kind]] = str(place)


def pickle_predictions(runner: Runner, path: Path) -> None:
    """Add a metric that writes predictions instead of judging them."""
    task = TASKS.get(runner.cfg.get("default_scope"))
    kind = task.prediction_writer if task else "DumpResults"
    writer = METRICS.build({"type": kind, "out_file_path": str(path)})
    runner.test_evaluator.metrics.append(writer)


def staging_folder(out: Path) -> Path:
    """Where the predictions for ``out`` lie until all are written."""
    return out.with_name(f".{out.name}.partial")


@contextmanager
def publishing(out: Path | None) -> Iterator[None]:
    """Make :func:`staging_folder` for the block, and move its files to ``out``.

    Of several processes the first one does so. What lay at ``out`` stays there if the
    block raises. Without ``out`` nothing happens.

    Raises:
        WriteError: The files cannot be written.
    """
    if out is None:
        yield
        return
    folder, first = staging_folder(out), is_first_process()
    try:
        if first:  # of a run that was killed
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        yield
        if first:
            publish(folder, out)
    except OSError as error:
        at_fault = error.path if isinstance(error, WriteError) else error.filename
        if at_fault is None and error.errno in _NO_SPACE:
            at_fault = folder  # Python does not say which file
        if at_fault is None or not Path(at_fault).is_relative_to(folder):
            raise  # another file, which the test reads or writes
        raise WriteError(out, error) from error
    finally:
        if first:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out: Path) -> None:
    """Move complete files and folders to their place."""
    target = out.parent if out.suffix else out
    target.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():  # which replaces no other folder
            shutil.rmtree(target / path.name, ignore_errors=True)
        path.replace(target / path.name)
