"""Backbones side by side: one case is one mode and one image size of all sides."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import Any

from mmengine.config import Config

from ..config_types import type_name
from .macs import Part, count_macs, total
from .measure import Bench, Job, Settings, Worker, WorkerError
from .models import build_model, check_impl, has_impl, open_config

# Seconds: the compiler's processes end when their parent ends by itself.
COMPILER_GRACE = 10


@dataclass
class Side:
    """One of the things that are compared.

    Attributes:
        name: Name of the config.
        cfg: The config.
        impl: Implementation, or ``None`` where the backbone has no choice.
    """

    name: str
    cfg: Config
    impl: str | None

    @classmethod
    def open(cls, name: str, impl: str | None = None) -> "Side":
        """Load a config and settle the implementation.

        Args:
            name: As :func:`~cluenet_mm.analysis.models.open_config` takes it.
            impl: ``None`` takes the config's.

        Raises:
            FileNotFoundError: No such config.
            ValueError: The config or the implementation does not fit.
        """
        cfg = open_config(name)
        backbone, scope = cfg.model.backbone, cfg.get("default_scope")
        if impl is not None:
            check_impl(backbone, scope, impl)
        elif has_impl(backbone, scope):
            impl = backbone.get("impl", "auto")
        return cls(name, cfg, impl)

    @property
    def label(self) -> str:
        """Backbone, variant and implementation in a few words."""
        backbone = self.cfg.model.backbone
        variant = backbone.get("arch", backbone.get("depth"))
        words = [type_name(backbone), variant, self.impl]
        return " ".join(str(word) for word in words if isinstance(word, str | int))

    def cost(self, shape: tuple[int, int]) -> Part:
        """Parameters of the backbone, and its MACs for one image."""
        model = build_model(self.cfg.model.backbone, self.cfg.get("default_scope"))
        return total(count_macs(model, shape, model))

    def job(self, settings: Settings, mode: str, shape: tuple[int, int]) -> Job:
        """What a worker has to know."""
        return Job(
            backbone=self.cfg.model.backbone.to_dict(),
            scope=self.cfg.get("default_scope"),
            impl=self.impl,
            mode=mode,
            shape=shape,
            settings=settings,
        )


class _Entry:
    """A side at work. The first error ends it and is kept in its results."""

    def __init__(self, worker: Worker, results: dict) -> None:
        self.results = results
        self._worker = worker

    @property
    def failed(self) -> bool:
        return "error" in self.results

    def ask(self, method: str, *args: object) -> Any:
        if self.failed:
            return None
        try:
            return self._worker.ask(method, *args)
        except WorkerError as error:
            self.results["error"] = str(error)
            self._worker.close()
            return None


def measure(
    sides: list[Side],
    mode: str,
    shape: tuple[int, int],
    batch: int | None,
    settings: Settings,
) -> tuple[list[dict], dict]:
    """Measure one case of every side.

    Args:
        sides: The first one is the baseline of the others' ratios.
        mode: ``"infer"`` or ``"train"``.
        shape: Height and width.
        batch: Images; ``None`` takes the largest batch that fits, of each side.
        settings: What all cases share.

    Returns:
        One dictionary a side, with ``error`` instead of numbers where it failed, and
        what the workers say about the machine.
    """
    cases = [
        {
            "config": side.name,
            "label": side.label,
            "impl": side.impl,
            "mode": mode,
            "shape": list(shape),
            "batch": batch,
            "rounds": [],
        }
        for side in sides
    ]
    machine: dict = {}
    for _ in range(settings.processes):
        with ExitStack() as stack:
            entries = []
            for side, case in zip(sides, cases, strict=True):
                if "error" not in case:
                    job = side.job(settings, mode, shape)
                    grace = COMPILER_GRACE if settings.compile else 0
                    worker = stack.enter_context(closing(Worker(Bench, job, grace)))
                    entries.append(_Entry(worker, case))
            machine = _measure_once(entries, settings.rounds) or machine
    for side, case in zip(sides, cases, strict=True):
        if "error" not in case:
            _summarise(case, side.cost(shape))
    first, *others = cases
    for other in others:
        if "error" not in first and "error" not in other:
            other["ratio"] = _ratio(other, first)
    return cases, machine


def _measure_once(entries: list[_Entry], rounds: int) -> dict:
    """Add the rounds of one process of every side; memory is that of the first one."""
    # Loading may overlap, measuring may not.
    machine = [entry.ask("about") for entry in entries]
    for entry in entries:
        case = entry.results
        if case["batch"] is None:
            case["batch"] = entry.ask("largest_batch")
        if "peak_memory_mib" not in case:
            case["peak_memory_mib"] = entry.ask("peak_memory", case["batch"])
        entry.ask("warm_up", case["batch"])
    speeds = [[entry.ask("round") for entry in entries] for _ in range(rounds)]
    for entry, own in zip(entries, zip(*speeds, strict=True), strict=True):
        if not entry.failed:
            entry.results["rounds"].append(list(own))
    return next((m for m in machine if m is not None), {})


def _summarise(case: dict, cost: Part) -> None:
    speeds = [median(rounds) for rounds in case["rounds"]]
    case["images_per_second"] = median(speeds)
    case["images_per_second_range"] = [min(speeds), max(speeds)]
    case["parameters"] = cost.parameters
    case["macs_per_image"] = cost.published
    case["macs_per_second"] = cost.published * case["images_per_second"]


def _ratio(case: dict, baseline: dict) -> dict:
    """Ratios to the baseline; the speed's is the median over processes.

    Of one process of each it is the median over neighbouring rounds.
    """
    speeds = [
        median(speed / base for speed, base in zip(ours, theirs, strict=True))
        for ours, theirs in zip(case["rounds"], baseline["rounds"], strict=True)
    ]
    macs = case["macs_per_image"] / baseline["macs_per_image"]
    memory = None
    if baseline["peak_memory_mib"] > 0:
        memory = case["peak_memory_mib"] / baseline["peak_memory_mib"]
    return {
        "images_per_second": median(speeds),
        "images_per_second_range": [min(speeds), max(speeds)],
        "macs_per_second": macs * median(speeds),
        "peak_memory_mib": memory,
        "batch": case["batch"] / baseline["batch"],
    }
