"""Models as ONNX files, compared with PyTorch before they are kept."""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..checkpoint import dataset_meta, load_checkpoint, load_weights
from ..config import image_shape, tested_dataset, type_name
from ..files import atomic_write, check_writable
from ..inference.model import build_model
from ..tasks import task_of
from .graphs import ExportError, Graph
from .symbolics import OPSET, project_symbolics

__all__ = ["ExportError", "Exported", "export_onnx"]

PACKAGES = ("onnx", "onnxruntime")
# Largest distance to PyTorch's output, relative to its length, at which a file is
# kept. Rounding stays far below; points that change their cluster may come near.
TOLERANCE = 1e-2
# Images and sides that a graph with open sizes is traced with: at every usual stride
# one of the sides divides into no even number of regions, so that the way of maps that
# have to be padded becomes the graph. It serves those that divide as well.
TRACED = (2, 197, 193)


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: The file.
        outputs: Names of its outputs.
        metadata: What the file says of itself.
        distance: Largest distance of an output to PyTorch's, relative to its length.
    """

    path: Path
    outputs: list[str]
    metadata: dict[str, str]
    distance: float


def export_onnx(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    dynamic: bool = False,
) -> Exported:
    """Export the model of a config.

    The input ``image`` is a batch ``(N, 3, H, W)`` of float images, normalized: as in
    MMDeploy, the graph begins behind the data preprocessor. Its mean, deviation and
    channel order are in the metadata of the file, with all else that a user needs. The
    outputs are those of the task in :mod:`.graphs`.

    Args:
        cfg: Config; its ``default_scope`` is the task.
        checkpoint: Weights of exactly that model.
        out: File to write, ``*.onnx``; an old one stays as it is if anything fails.
        size: Height and width of the images; by default those that the config tests
            with.
        batch_size: Images in a batch.
        dynamic: Leave batch, height and width open. The file is then compared with
            PyTorch at ``size`` and at another one.

    Raises:
        ExportError: The request cannot be met.
        FileNotFoundError: The checkpoint does not exist.
        CheckpointError: It cannot be read, or holds other weights.
        OSError: ``out`` cannot be written.
    """
    _check_packages()
    out = Path(out)
    if out.suffix != ".onnx":
        raise ExportError(f"cannot write {out}: the name must end in .onnx")
    check_writable(out)  # refuse early what could not be written in the end
    if "model" not in cfg:
        raise ExportError("cannot export: the config describes no model")
    task = task_of(cfg)
    shape = (batch_size, *(size or _tested_size(cfg)))
    if min(shape) < 1:
        raise ExportError(
            f"cannot export for {shape}: batch size, height and width must be positive"
        )
    loaded = load_checkpoint(str(checkpoint))
    model = build_model(cfg)
    load_weights(model, loaded, checkpoint)
    graph = task.load("graph")(model).eval()
    shapes = [shape]
    if dynamic:
        shapes.append((batch_size + 1, shape[1] // 2 + 24, shape[2] // 2 + 37))
    pairs = [_reference(graph, *sides) for sides in shapes]
    names = graph.output_names(*pairs[0])
    metadata = {
        "task": graph.task,
        "config": "/".join(Path(cfg.filename or "").parts[-2:]),
        "opset": str(OPSET),
        "input_size": json.dumps(
            ["N", 3, "H", "W"] if dynamic else [batch_size, 3, *shape[1:]]
        ),
        **_preprocessing(cfg, model),
        "classes": json.dumps(list(map(str, dataset_meta(loaded).get("classes", ())))),
    }
    with atomic_write(out) as temporary:
        try:
            _write(graph, temporary, names, pairs[0][0], dynamic)
            _describe(temporary, metadata)
            distance = _distance(temporary, names, pairs)
        except _UnfitError as error:
            raise ExportError(_complaint(str(error), dynamic)) from error
    return Exported(out, names, metadata, distance)


class _UnfitError(Exception):
    """A graph that cannot be made or run, or computes something else."""


def _complaint(fault: str, dynamic: bool) -> str:
    if dynamic:
        return (
            f"cannot export with dynamic sizes: {fault}. Leave --dynamic out and "
            "export one file per size"
        )
    return f"cannot export this model: {fault}. Run it with PyTorch"


def _check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"cannot export: {' and '.join(missing)} not installed. Run `make env`, "
            f"or: pip install {' '.join(missing)}"
        )


def _tested_size(cfg: Config) -> tuple[int, int]:
    """Height and width that the config tests with, padded as its model pads them."""
    settings = dict(cfg.model.get("data_preprocessor") or {})
    settings.update(settings.get("test_cfg") or {})
    divisor = settings.get("pad_size_divisor") or settings.get("size_divisor") or 1
    height, width = image_shape(cfg)
    return divisor * -(-height // divisor), divisor * -(-width // divisor)


def _reference(
    graph: Graph, batch: int, height: int, width: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A random batch and what PyTorch makes of it."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 3, height, width, generator=generator)
    try:
        with torch.no_grad():
            return image, graph(image)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"cannot run the model on images of {height} x {width} pixels "
            f"({_first_line(error)}). Choose another --size; a model that accepts a "
            "single size cannot use --dynamic"
        ) from error


def _write(
    graph: Graph, path: Path, names: list[str], image: Tensor, dynamic: bool
) -> None:
    """Trace a graph and write it down.

    PyTorch's newer exporter would be the better one of the two, if it could leave the
    sizes of regions open in less than minutes.
    """
    axes = None
    if dynamic:
        batch, height, width = TRACED
        image = image.new_zeros(batch, 3, height, width)
        axes = {name: {0: "N"} for name in names}
        axes["image"] = {0: "N", 2: "H", 3: "W"}
        for name in names:
            axes[name] |= graph.open_axes(name)
    with project_symbolics(), warnings.catch_warnings():
        # Of every size that decides a branch; the comparison with PyTorch follows.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph,
                (image,),
                str(path),
                input_names=["image"],
                output_names=names,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except (
            *(torch.onnx.errors.OnnxExporterError, AssertionError, AttributeError),
            *(LookupError, RuntimeError, TypeError, ValueError),
        ) as error:  # tracing can fail anywhere in a model
            raise _UnfitError(_first_line(error)) from error


def _describe(path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, path)


def _distance(
    path: Path, names: list[str], pairs: Sequence[tuple[Tensor, tuple[Tensor, ...]]]
) -> float:
    """Largest distance of onnxruntime's floating outputs to PyTorch's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised as well
    worst, sizes = 0.0, "any size"
    try:
        session = onnxruntime.InferenceSession(path, options)
        for image, outputs in pairs:
            sizes = "x".join(map(str, image.shape))
            found = session.run(names, {"image": image.numpy()})
            for name, ours, theirs in zip(names, outputs, found, strict=True):
                worst = max(worst, _compare(f"{name} for {sizes}", ours, theirs))
    except _UnfitError:
        raise
    except Exception as error:  # those of onnxruntime have no common base
        fault = f"onnxruntime fails for {sizes} ({_first_line(error)})"
        raise _UnfitError(fault) from error
    return worst


def _compare(what: str, ours: Tensor, theirs: np.ndarray) -> float:
    """Distance of one output; labels have none."""
    if tuple(ours.shape) != theirs.shape:
        raise _UnfitError(f"{what} is {theirs.shape}, not {tuple(ours.shape)}")
    if not ours.is_floating_point():
        return 0.0
    length = ours.norm().clamp(min=torch.finfo(ours.dtype).tiny)
    distance = float((torch.from_numpy(theirs) - ours).norm() / length)
    if not distance <= TOLERANCE:
        raise _UnfitError(f"{what} is {distance:.2g} of its length away from PyTorch's")
    return distance


def _preprocessing(cfg: Config, model: nn.Module) -> dict[str, str]:
    """How an image becomes the input."""
    preprocessor = model.data_preprocessor
    found = {}
    for name, neutral in (("mean", 0.0), ("std", 1.0)):
        value = getattr(preprocessor, name, None)
        value = torch.full((3,), neutral) if value is None else value.detach()
        found[name] = json.dumps(value.flatten().tolist())
    steps = [type_name(step) for step in tested_dataset(cfg).get("pipeline", [])]
    turned = any(
        getattr(preprocessor, name, False)
        for name in ("to_rgb", "_channel_conversion", "channel_conversion")
    )
    # OpenMMLab reads files as BGR; datasets in memory are RGB here.
    bgr = "LoadImageFromFile" in steps and not turned
    return {**found, "channel_order": "bgr" if bgr else "rgb"}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
