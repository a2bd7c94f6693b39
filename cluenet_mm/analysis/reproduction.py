"""What tools/reproduce/cifar100.py trains, and how its results are shown."""

from collections.abc import Mapping
from statistics import mean, median, stdev
from types import MappingProxyType
from typing import NamedTuple

from mmengine.config import Config

from ..package_data import config_path
from .markdown import head, row

DATASET = "_base_/datasets/cifar100_memory.py"
# What the recipes' own data leave behind at the top of a config.
PIPELINES = ("dataset_type", "train_pipeline", "test_pipeline", "lr")


class Network(NamedTuple):
    """A network with its recipe.

    Attributes:
        title: For tables.
        config: Name of the config with the recipe of 105 epochs.
        published: Top-1 accuracy in CLUENet's paper, as text for tables.
    """

    title: str
    config: str
    published: str


NETWORKS = {
    "cluenet": Network("CLUENet micro", "cluenet/cls_cifar100.py", "76.55"),
    "coc": Network("Context Cluster mini", "coc/cls_cifar100.py", "71.92"),
    "fec": Network("FEC mini", "fec/cls_cifar100.py", "69.73"),
    "clusterformer": Network(
        "ClusterFormer mini", "clusterformer/cls_cifar100.py", "66.05"
    ),
    "resnet18": Network(
        "ResNet-18 of mmpretrain",
        "baselines/resnet18_cifar100.py",
        "69.84, another ResNet",
    ),
}


class Protocol(NamedTuple):
    """How networks are trained, all of them alike.

    Attributes:
        text: What has to stand beside its numbers.
        runs: Pairs of network and seed that it consists of, in their order.
        classes: The first so many classes.
        epochs: Length; ``None`` leaves schedule, batch and rate of the recipe.
        batch_size: Images a step.
        images_per_class: Images that a class must have, by split.
    """

    text: str
    runs: tuple[tuple[str, int], ...]
    classes: int = 100
    epochs: int | None = None
    batch_size: int | None = None
    images_per_class: Mapping[str, int] = MappingProxyType({"train": 500, "test": 100})


PROTOCOLS = {
    "full": Protocol(
        "The papers' protocol: all 100 classes, 105 epochs, batches of 256.",
        (*((name, 0) for name in NETWORKS), ("cluenet", 1)),
    ),
    "reduced": Protocol(
        "A reduced protocol, not comparable with the paper's column: the first 10 "
        "classes, 6 epochs (1 of warm-up, then cosine), batches of 64, learning rates "
        "scaled down from the recipes in proportion.",
        tuple((name, seed) for seed in range(3) for name in NETWORKS),
        classes=10,
        epochs=6,
        batch_size=64,
    ),
    "smoke": Protocol(
        "No result, only a trial of the machine: 2 classes, 3 epochs, batches of 16.",
        tuple((name, 0) for name in NETWORKS),
        classes=2,
        epochs=3,
        batch_size=16,
        images_per_class=MappingProxyType({}),
    ),
}


def compose(network: str, protocol: str, seed: int, data: str) -> Config:
    """Config of one run: the network's recipe on images in memory.

    Args:
        network: Key of :data:`NETWORKS`.
        protocol: Key of :data:`PROTOCOLS`.
        seed: Of weights, order of images, augmentation and drop path.
        data: Folder with ``train.npz`` and ``test.npz``.

    """
    cfg = Config.fromfile(config_path(NETWORKS[network].config))
    batch, rate = cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.lr
    for name in PIPELINES:
        cfg.pop(name, None)
    for name, value in Config.fromfile(config_path(DATASET)).in_memory.items():
        value.pop("_delete_")
        cfg[name] = value
    settings = PROTOCOLS[protocol]
    if settings.epochs is not None:
        rate *= settings.batch_size / batch
        batch = settings.batch_size
        cfg.optim_wrapper.optimizer.lr = rate
        cfg.param_scheduler = _schedule(settings.epochs, rate)
        cfg.train_cfg.max_epochs = settings.epochs
        cfg.pop("auto_scale_lr", None)
    cfg.model.head.num_classes = settings.classes
    cfg.data_preprocessor.num_classes = settings.classes
    for name, split in (("train", "train"), ("val", "test"), ("test", "test")):
        loader = cfg[f"{name}_dataloader"]
        loader.dataset.path = f"{data}/{split}.npz"
        loader.batch_size = batch
    cfg.randomness.seed = seed
    return cfg


def _schedule(epochs: int, rate: float) -> list[dict]:
    """One epoch of linear warm-up, then cosine, both stepped every iteration."""
    shared = {"by_epoch": True, "convert_to_iter_based": True}
    warm_up = {"type": "LinearLR", "start_factor": 1e-6 / rate, "begin": 0, "end": 1}
    cosine = {"type": "CosineAnnealingLR", "eta_min": 1e-5, "T_max": epochs - 1}
    return [{**warm_up, **shared}, {**cosine, "begin": 1, "end": epochs, **shared}]


def table(results: dict) -> str:
    """Markdown: what the protocol is, and its runs beside the paper's numbers.

    Args:
        results: With ``protocol`` and ``runs``, as the tool writes them.

    Raises:
        ValueError: They are of no protocol, such as those of other runs.
    """
    if results.get("protocol") not in PROTOCOLS:
        raise ValueError(
            "a table of the reproduction needs results of tools/reproduce/cifar100.py, "
            f"of one of the protocols {', '.join(PROTOCOLS)}"
        )
    columns = (
        *("network", "parameters", "paper, top-1, 105 epochs"),
        *("here, top-1", "seeds", "epochs", "device", "hours a run"),
        *("training, images/s", "loader with augmentation, images/s"),
    )
    lines = [PROTOCOLS[results["protocol"]].text, ""]
    lines += head(columns)
    for name, network in NETWORKS.items():
        runs = [run for run in results["runs"] if run["network"] == name]
        if not runs:
            cells = ["", network.published, "not run", *[""] * 6]
            lines.append(row([network.title, *cells]))
            continue
        last = [run["metrics"][-1]["accuracy/top1"] for run in runs]
        devices = dict.fromkeys(run["device"] for run in runs)
        cells = [network.title, f"{runs[0]['parameters']:,}", network.published]
        cells += [_spread(last), ", ".join(str(run["seed"]) for run in runs)]
        cells += [str(runs[0]["epochs"]), ", ".join(devices)]
        cells.append(f"{mean(run['wall_hours'] for run in runs):.2g}")
        for part in ("training", "loader_and_augmentation"):
            speed = median(run["images_per_second"][part] for run in runs)
            cells.append(f"{speed:,.0f}")
        lines.append(row(cells))
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    """Mean and, where there are several values, their standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} ± {stdev(values):.2f}"
