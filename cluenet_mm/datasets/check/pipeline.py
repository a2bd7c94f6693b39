"""What a pipeline and a schedule will make of the data, said before a training."""

from collections.abc import Iterator, Mapping
from math import ceil, prod
from statistics import median
from typing import Any

from mmengine.config import Config

from ...config import type_name
from .common import Report, named_parts, pipeline_of

__all__ = ["note_pipeline"]

# Parts of the names of transforms after which sizes are others.
_RESIZING = ("Resize", "Rescale", "Crop", "Pad", "Mosaic", "Albu")
_SMALL_SHARE = 0.25
_LARGE_INPUT = 1.0  # GiB
_GIB = 2**30


def note_pipeline(
    cfg: Config,
    report: Report,
    sizes: list[tuple[int, int]],
    num_images: int | None = None,
) -> None:
    """Note what is likely not meant; none of it is a fault of the data.

    Args:
        cfg: Config.
        report: Of a dataset that :func:`~.common.named_parts` names.
        sizes: Width and height of its images that can be read.
        num_images: How many it has; the number of sizes by default.
    """
    steps = pipeline_of(cfg, report.name)
    split = report.name.split(" ")[0]
    batch = cfg[f"{split}_dataloader"].get("batch_size") or 1
    if sizes:
        _note_padding(report, steps, sizes, batch)
        _note_crop(cfg, report, steps, sizes)
    if split == "train":
        _note_learning_rate(cfg, report, batch)
        if len(named_parts(cfg, split)) == 1:
            _note_schedule(cfg, report, ceil((num_images or len(sizes)) / batch))


def _note_padding(
    report: Report, steps: list[Mapping], sizes: list[tuple[int, int]], batch: int
) -> None:
    if any(_resizes(step) for step in steps):
        return
    low, high = min(sizes, key=prod), max(sizes, key=prod)
    width, height = (max(side) for side in zip(*sizes, strict=True))
    memory = f"{batch * 3 * width * height * 4 / _GIB:.2g} GiB as float32"
    if low != high and batch > 1:
        report.notes.append(
            f"nothing in the pipeline resizes images of {_text(low)} to {_text(high)} "
            f"pixels: a batch of {batch} is padded to its largest, up to "
            f"{width} x {height} ({memory}, and the network takes many times that). "
            "Add Resize, and a crop if all shall have one size"
        )
    elif batch * 3 * width * height * 4 > _LARGE_INPUT * _GIB:
        report.notes.append(
            f"a batch of {batch} images of {_text(high)} pixels, which nothing in the "
            f"pipeline resizes, has {memory}, and the network takes many times that"
        )


def _note_crop(
    cfg: Config, report: Report, steps: list[Mapping], sizes: list[tuple[int, int]]
) -> None:
    for step in steps:
        if type_name(step) == "RandomCrop":
            size = step.get("crop_size")
            break
        if _resizes(step):
            return
    else:
        return
    size = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(size) != 2 or str(step.get("crop_type", "absolute")) != "absolute":
        return
    # mmdet's has the width first.
    height, width = size[::-1] if cfg.get("default_scope") == "mmdet" else size
    shares = [min(width, w) * min(height, h) / (w * h) for w, h in sizes]
    share = median(shares)
    if share <= _SMALL_SHARE:
        report.notes.append(
            f"training sees {share:.1%} of a photograph (median): RandomCrop takes "
            f"{width} x {height} of images of up to {_text(max(sizes, key=prod))} "
            "pixels, and nothing resizes them before. Use RandomResizedCrop or Resize"
        )


def _note_learning_rate(cfg: Config, report: Report, batch: int) -> None:
    scale = cfg.get("auto_scale_lr") or {}
    base = scale.get("base_batch_size")
    batch *= (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    if base and base != batch and not scale.get("enable"):
        fits = f" ({base // batch} processes make it)" if base % batch == 0 else ""
        report.notes.append(
            f"the learning rate is for a batch of {base}{fits}, and one process makes "
            f"{batch}: train with --auto-scale-lr, or set the rate"
        )


def _note_schedule(cfg: Config, report: Report, iterations: int) -> None:
    """Schedulers whose fixed end the training does not reach."""
    loop = cfg.get("train_cfg") or {}
    epochs = loop.get("max_epochs")
    length = {
        "epoch": epochs,
        "iteration": epochs * iterations if epochs else loop.get("max_iters"),
    }
    found = cfg.get("param_scheduler") or ()
    found = [found] if isinstance(found, Mapping) else list(found)
    for number, scheduler in enumerate(found):
        unit = "epoch" if scheduler.get("by_epoch", True) else "iteration"
        last = max(_ends(scheduler), default=0)
        if length[unit] and last > length[unit]:
            report.notes.append(
                f"param_scheduler.{number} ({type_name(scheduler)}) runs to {unit} "
                f"{last}, and training ends at {length[unit]}: the learning rate stops "
                "on its way. Set its end, T_max or milestones with the length"
            )


def _ends(scheduler: Mapping) -> Iterator[int]:
    begin = scheduler.get("begin") or 0
    yield scheduler.get("end") or 0
    for key in ("T_max", "total_steps"):
        yield begin + (scheduler.get(key) or 0)
    yield from scheduler.get("milestones") or ()


def _resizes(step: Any) -> bool:
    """Whether a transform, or one inside it, changes sizes."""
    if isinstance(step, Mapping):
        name = type_name(step) if "type" in step else ""
        return any(part in name for part in _RESIZING) or any(
            _resizes(value) for value in step.values()
        )
    if isinstance(step, list | tuple):
        return any(map(_resizes, step))
    return False


def _text(size: tuple[int, int]) -> str:
    return "{} x {}".format(*size)
