"""A run in a few lines, before it starts and after an evaluation."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from .config import type_name


def summary(runner: Runner, *phases: str) -> str:
    """Device, data, model, length and folder of a run, in a line each.

    Args:
        runner: From :func:`~cluenet_mm.runner.build_runner`, with the same phases.
        phases: Which of ``"train"``, ``"val"`` and ``"test"`` will run.
    """
    cfg = runner.cfg
    loops = {p: getattr(runner, f"{p}_loop", None) for p in phases}
    loops = {phase: loop for phase, loop in loops.items() if loop is not None}
    lines = {
        "device": _device(),
        "data": _data(loops),
        "model": _model(runner.model),
    }
    if "train" in loops:
        lines["training"] = _training(runner, loops["train"])
    elif cfg.get("load_from"):
        lines["weights"] = cfg.load_from
    lines["log"] = f"{runner.log_dir}/{runner.timestamp}.log"
    return "".join(f"{name:<9} {text}\n" for name, text in lines.items()).rstrip()


def _device() -> str:
    device, processes = get_device(), get_world_size()
    name = torch.cuda.get_device_name() if device == "cuda" else device.upper()
    if device == "cpu":
        name += f", {counted(torch.get_num_threads(), 'thread')}"
    return f"{name}, {processes} processes" if processes > 1 else name


def counted(number: int, unit: str) -> str:
    """A number with its unit, such as ``1 image`` or ``2,000 images``."""
    return f"{number:,} {unit}" + "s" * (number != 1)


def _model(model: nn.Module | Mapping) -> str:
    if isinstance(model, Mapping):  # FlexibleRunner builds it in the end
        return type_name(model)
    while is_model_wrapper(model):
        model = model.module
    text = type(model).__name__
    if (backbone := getattr(model, "backbone", None)) is not None:
        text += f" with {type(backbone).__name__}"
    return f"{text}, {sum(p.numel() for p in model.parameters()):,} parameters"


def _data(loops: Mapping[str, Any]) -> str:
    words, classes = [], ()
    for phase, loop in loops.items():
        dataset = loop.dataloader.dataset
        words.append(f"{phase} {len(dataset):,}")
        classes = (getattr(dataset, "metainfo", None) or {}).get("classes") or classes
    if classes:
        words.append(f"classes {len(classes):,}")
    return ", ".join(words)


def _training(runner: Runner, loop: Any) -> str:
    batch = getattr(loop.dataloader, "batch_size", None)
    if getattr(loop, "max_epochs", None) and runner.cfg.train_cfg.get("max_epochs"):
        length = counted(loop.max_epochs, "epoch")
        length += f" of {counted(len(loop.dataloader), 'step')}"
    else:
        length = counted(loop.max_iters, "step")
    if batch:
        length += f" of {counted(batch, 'image')}"
        if (processes := get_world_size()) > 1:
            length += f" x {processes}"
    wrapper = runner.cfg.optim_wrapper
    optimizer = wrapper.get("optimizer") or {}
    if "Amp" in type_name(wrapper.get("type", "OptimWrapper")):
        length += ", mixed precision"
    if "type" in optimizer:
        length += f", {type_name(optimizer)}"
    if "lr" in optimizer:
        length += f", learning rate {optimizer['lr']:g}"
        if (runner.cfg.get("auto_scale_lr") or {}).get("enable"):
            length += " before scaling"
    return length


def results(title: str, metrics: Mapping[str, Any]) -> str:
    """A table of the numbers that an evaluation found."""
    numbers = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, Real) and not isinstance(value, bool)
    }
    width = max(map(len, numbers), default=0) + 1
    rows = [f"  {f'{name}:':<{width}} {value:>9.4f}" for name, value in numbers.items()]
    return "\n".join([title, *rows])
