"""Speed and peak memory of networks, each measured in processes of its own.

:func:`measure_in_turns` alternates between the sides that are compared;
:func:`in_process` starts a process, which calls :func:`measure`.
"""

import gc
import multiprocessing
import platform
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from torch.utils.benchmark import Timer

from .config import num_classes, resolve_type, type_name
from .flops import build, count_config, count_macs, open_config, total
from .memory import return_free_memory
from .ops import implementation
from .tasks import task_of

MAX_BATCH = 2**14
OBJECTS = 8  # in every image of a detector
Step = Callable[[], object]
Prepare = Callable[[int, tuple[int, int]], Step]  # from batch and image size


def sides_of(
    configs: list[str], impls: list[str], what: str, onnx: str | None
) -> list[dict]:
    """What is compared: ``config``, ``label``, ``impl`` and ``onnx`` of every side.

    Raises:
        FileNotFoundError: No such config.
        ValueError: A config cannot be read, or describes no backbone that is known.
    """
    sides = []
    for name in configs:
        cfg = open_config(name)
        words = [type_name(cfg.model)] if what == "model" else []
        backbone = cfg.model.backbone
        words.append(type_name(backbone))
        variant = backbone.get("arch", backbone.get("depth"))
        words += [str(variant)] if isinstance(variant, str | int) else []
        for impl in impls if clusters(cfg) else [None]:
            label = " ".join([*words, *([impl] if impl else [])])
            sides.append({"config": name, "label": label, "impl": impl, "onnx": None})
    if onnx:
        first = sides[0]
        label = (
            f"{first['label'].removesuffix(first['impl'] or '').strip()} onnxruntime"
        )
        sides.append({**first, "label": label, "impl": None, "onnx": onnx})
    return sides


def clusters(cfg: Config) -> bool:
    """Whether the backbone is one of ours, whose implementation can be chosen."""
    with MODELS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        kind = resolve_type(cfg.model.backbone, registry)
    if kind is None:
        name = cfg.model.backbone["type"]
        raise ValueError(f"cannot measure backbone {name!r}: it is not in a registry")
    return kind.__module__.startswith("cluenet_mm.")


def measure_in_turns(cases: list[dict], settings: dict) -> dict:
    """Measure the sides of one mode and image size.

    Args:
        cases: The first one is the baseline of the others' ratios; each gets its
            results, or ``error`` instead.
        settings: What they share.

    Returns:
        What the processes say about the machine.
    """
    machine: dict = {}
    for _ in range(settings["processes"]):
        for case in cases:
            if "error" in case:
                continue
            result = in_process({**settings, **case})
            if "error" in result:
                case["error"] = result["error"]
                continue
            machine = result["machine"]
            case["batch"] = result["batch"]
            case.setdefault("peak_memory_mib", result["peak_memory_mib"])
            case.setdefault("rounds", []).append(result["images_per_second"])
    whole = [case for case in cases if "error" not in case]
    for case in whole:
        summarize(case, settings["what"])
        if case is not cases[0] is whole[0]:
            case["ratio"] = ratio(case, cases[0])
    return machine


def summarize(case: dict, what: str) -> None:
    """Add speed and cost to the rounds of a case."""
    speeds = [median(speeds) for speeds in case["rounds"]]
    case["images_per_second"] = median(speeds)
    case["images_per_second_range"] = [min(speeds), max(speeds)]
    cfg, shape = open_config(case["config"]), tuple(case["shape"])
    scope = cfg.get("default_scope")
    if what == "backbone":
        cost = total(count_macs(build(cfg.model.backbone, scope), shape))
    elif scope == "mmdet" and case["mode"] == "train":
        return  # what its heads compute depends on the image
    else:
        cost = total(count_config(cfg, shape))
    case["parameters"] = cost.parameters
    case["macs_per_image"] = cost.published
    case["macs_per_second"] = cost.published * case["images_per_second"]


def ratio(case: dict, first: dict) -> dict:
    """Ratios to the first side; the speed's is the median over processes."""
    pairs = zip(case["rounds"], first["rounds"], strict=True)
    speeds = [median(ours) / median(theirs) for ours, theirs in pairs]
    ratios = {
        "images_per_second": median(speeds),
        "images_per_second_range": [min(speeds), max(speeds)],
        "batch": case["batch"] / first["batch"],
    }
    for name in ("peak_memory_mib", "macs_per_second"):
        if case.get(name) and first.get(name):
            ratios[name] = case[name] / first[name]
    return ratios


# --- one side -------------------------------------------------------------------------


def in_process(side: dict) -> dict:
    """Call :func:`measure` in a fresh process.

    Returns:
        Its result, or ``error`` (one line).
    """
    # What a server has imported is there at once. It has asked for GPUs by then, and
    # forks of such a process cannot use them.
    start = "forkserver" if side.get("device") == "cpu" else "spawn"
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(measure, side).result()
        except BrokenProcessPool:
            return {"error": "the process was killed: out of memory?"}
        except Exception as error:  # whatever a model raises is reported
            return {"error": one_line(error)}


def one_line(error: Exception) -> str:
    """What happened, and whether it is a lack of memory."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if ran_out or "can't allocate memory" in line:
        return f"out of memory: {line}"
    return line


def measure(side: dict) -> dict:
    """Time one side and take its peak memory.

    Args:
        side: What to measure, as for tools/analysis/benchmark.py: ``config``, ``impl``
            (``None`` for networks that do not cluster), ``onnx`` (a file, or ``None``),
            ``what``, ``mode``, ``shape``, ``batch`` (``None``: the largest that fits),
            ``device``, ``amp``, ``compile``, ``with_cp``, ``threads``, ``seconds``.

    Returns:
        ``batch``, ``images_per_second`` (of every timed block), ``peak_memory_mib`` and
        ``machine`` (``device``, ``threads``, how ``memory`` was taken).
    """
    device, shape = side["device"], tuple(side["shape"])
    if side["threads"]:
        torch.set_num_threads(side["threads"])
    torch.manual_seed(0)  # of weights and of a detector's proposals
    prepare = prepare_onnx(side) if side["onnx"] else prepare_network(side)
    if not side["compile"] and not side["onnx"]:  # they may know one size alone
        try:
            prepare(1, tuple(min(64, length) for length in shape))()  # loads libraries
        except AssertionError:  # mmpretrain's Swin: no map smaller than a window
            prepare(1, shape)()
    batch = side["batch"] or largest_batch(prepare, shape)
    step = prepare(batch, shape)
    if side["compile"] or side["onnx"]:
        step()
    memory, how = peak_memory(step, device)
    threads = torch.get_num_threads()
    timer = Timer("step()", globals={"step": step}, num_threads=threads)
    times = timer.blocked_autorange(min_run_time=side["seconds"]).times
    return {
        "batch": batch,
        "peak_memory_mib": memory,
        "images_per_second": [batch / seconds for seconds in times],
        "machine": {
            "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
            "threads": threads,
            "memory": how,
        },
    }


def prepare_network(side: dict) -> Prepare:
    """A step of PyTorch on random images."""
    device, train = side["device"], side["mode"] == "train"
    cfg, whole = open_config(side["config"]), side["what"] == "model"
    scope, backbone = cfg.get("default_scope"), cfg.model.backbone
    backbone.pop("init_cfg", None)
    if side["with_cp"]:
        backbone.with_cp = True
    if whole:
        preprocessor = cfg.get("data_preprocessor")
        model = build({"data_preprocessor": preprocessor, **cfg.model}, scope)
    else:
        model = build(backbone, scope)
    MMLogger.get_current_instance().setLevel("ERROR")  # a line for every parameter
    model.init_weights()
    model.train(train)  # returns nothing in OpenMMLab's backbones
    model.to(device)
    network = model
    if whole and not train:
        network = task_of(cfg).load("graph")(model).eval()
    run = torch.compile(network) if side["compile"] else network
    dtype = getattr(torch, side["amp"] or "bfloat16")

    def forward(data: dict | torch.Tensor) -> torch.Tensor | None:
        with (
            torch.set_grad_enabled(train),
            torch.autocast(device, dtype, enabled=bool(side["amp"])),
        ):
            if whole and train:
                return model.parse_losses(run(**data, mode="loss"))[0]
            outputs = run(data)
        if not train:
            return None
        maps = [x for x in outputs if isinstance(x, torch.Tensor)]  # and no memberships
        return sum(x.float().square().mean() for x in maps)

    def prepare(batch: int, shape: tuple[int, int]) -> Step:
        if whole and train:
            if scope == "mmseg":  # which pads to the size of its crops
                model.data_preprocessor.size = shape
            data = labeled_batch(scope, shape, batch, num_classes(model))
            data = model.data_preprocessor(data, training=True)
        else:
            data = torch.randn(batch, 3, *shape, device=device)

        def step() -> None:
            model.zero_grad(set_to_none=True)
            with implementation(side["impl"] or "auto"):
                loss = forward(data)
                if train:
                    loss.backward()

        return step

    return prepare


def prepare_onnx(side: dict) -> Prepare:
    """A call of onnxruntime on random images."""
    import onnxruntime

    provider = f"{side['device'].upper()}ExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"cannot measure: this onnxruntime has no {provider}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(side["onnx"], options, [provider])

    def prepare(batch: int, shape: tuple[int, int]) -> Step:
        images = torch.randn(batch, 3, *shape).numpy()
        return lambda: session.run(None, {session.get_inputs()[0].name: images})

    return prepare


def labeled_batch(scope: str, shape: tuple[int, int], batch: int, classes: int) -> dict:
    """Noise with random labels, as a pipeline packs it."""
    if scope == "mmdet":
        from mmdet.testing import demo_mm_inputs

        found = demo_mm_inputs(
            batch, [(3, *shape)] * batch, [OBJECTS] * batch, classes, with_mask=True
        )
        for sample in found["data_samples"]:  # which panoptic models ask for
            sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *shape).long())
        return found
    images = list(torch.randint(0, 256, (batch, 3, *shape), dtype=torch.uint8))
    if scope == "mmseg":
        from mmseg.structures import SegDataSample

        maps = torch.randint(0, classes, (batch, 1, *shape))
        samples = [SegDataSample(gt_sem_seg=PixelData(data=data)) for data in maps]
        for sample in samples:
            sample.set_metainfo({"img_shape": shape, "ori_shape": shape})
    else:
        from mmpretrain.structures import DataSample

        labels = torch.randint(0, classes, (batch,))
        samples = [DataSample().set_gt_label(label) for label in labels]
    return {"inputs": images, "data_samples": samples}


def largest_batch(prepare: Prepare, shape: tuple[int, int]) -> int:
    """Largest batch with which a step fits into the memory of the GPU."""
    fits, fails = 0, MAX_BATCH + 1
    while fails - fits > 1:
        batch = min(2 * fits or 1, (fits + fails) // 2)
        try:
            prepare(batch, shape)()
            fits = batch
        except torch.OutOfMemoryError:
            fails = batch
        gc.collect()
        torch.cuda.empty_cache()
    if fits == 0:
        raise MemoryError("not even one image fits")
    return fits


def peak_memory(step: Step, device: str) -> tuple[float, str]:
    """Peak over what is there already during one step, in MiB, and how it was taken."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak = torch.cuda.max_memory_allocated()
        return (peak - before) / 2**20, "PyTorch's allocator"
    return_free_memory()
    how = "resident set, high-water mark of one step"
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        how = "resident set, high-water mark since the start: an upper bound"
    before = process_memory("VmRSS")
    step()
    return process_memory("VmHWM") - before, how


def process_memory(key: str) -> float:
    """A line of ``/proc/self/status`` in MiB, such as ``VmRSS``."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def cpu_name() -> str:
    """What the kernel calls the processor."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()
