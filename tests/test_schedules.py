"""Learning rates of the recipes, as MMEngine's runner builds and steps them."""

import copy
from math import cos, pi
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from cluenet_mm.training import WarmupLR

CONFIGS = Path(__file__).parents[1] / "configs"


class Toy(BaseModel):
    """One parameter under each of the names that recipes tell apart."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(1, 1, bias=False)
        self.head = torch.nn.Linear(1, 1, bias=False)

    def forward(self):
        raise NotImplementedError


def prepare(name, tmp_path, options=None, epoch_length=1, batch=1):
    """A runner of the config that has built what trains, and no data."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    cfg.merge_from_dict(options or {})
    if cfg.optim_wrapper.type.endswith("AmpOptimWrapper"):  # no GPU here
        cfg.optim_wrapper.type = "cluenet_mm.GuardedOptimWrapper"
        del cfg.optim_wrapper["loss_scale"]
    runner = Runner(
        model=Toy(),
        work_dir=str(tmp_path),
        train_dataloader=torch.utils.data.DataLoader(
            [{}] * epoch_length * batch, batch_size=batch
        ),
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        auto_scale_lr=cfg.get("auto_scale_lr"),
        default_scope=cfg.default_scope,
        experiment_name=f"{name}-{tmp_path.name}",
        log_level="ERROR",
    )
    # As Runner.train does.
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner


def rates(runner, group=-1):
    """The rate of every step of the run."""
    length = len(runner.train_dataloader)
    groups = runner.optim_wrapper.param_groups
    runner.optim_wrapper.step()  # schedulers want one before they step
    for step in range(1, runner.max_iters + 1):
        yield groups[group]["lr"]
        for scheduler in runner.param_schedulers:
            if not scheduler.by_epoch or step % length == 0:
                scheduler.step()


def timm(step, length, warmup, lr, floor, cooldown=0):
    """As timm's ``CosineLRScheduler(t_initial, warmup_t, warmup_prefix=False)``."""
    if step < warmup:
        return 1e-6 + step * (lr - 1e-6) / warmup
    wave = cos(pi * min(step, length - cooldown) / (length - cooldown))
    return floor + 0.5 * (lr - floor) * (1 + wave)


@pytest.mark.parametrize("epochs", [105, 21, 4])
@pytest.mark.parametrize(
    ("name", "lr"),
    [
        ("cluenet/cls_cifar100", 1.5e-2),
        ("cluenet/cls_cifar100_folder", 1.5e-2),
        ("cluenet/cls_mini_imagenet_tiny", 2e-3),
        ("coc/cls_cifar100", 3e-3),
        ("coc/cls_mini_imagenet_tiny", 1e-3),
        ("fec/cls_cifar100", 1e-3),
        ("fec/cls_mini_imagenet_small", 3e-3),
        ("clusterformer/cls_cifar100", 3e-3),
        ("clusterformer/cls_mini_imagenet_tiny", 5e-4),
        ("baselines/resnet18_cifar100", 1e-2),
    ],
)
def test_from_scratch(name, lr, epochs, tmp_path):
    options = {} if epochs == 105 else {"train_cfg.max_epochs": epochs}
    seen = list(rates(prepare(name, tmp_path, options)))
    expected = [timm(e, epochs, epochs * 5 / 105, lr, 1e-5) for e in range(epochs)]
    assert seen == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("epochs", [310, 31])
@pytest.mark.parametrize("name", ["coc/cls_imagenet_tiny", "fec/cls_imagenet_large"])
def test_imagenet_as_released(name, epochs, tmp_path):
    runner = prepare(name, tmp_path, {"train_cfg.max_epochs": epochs})
    whole = epochs / 310
    expected = [
        timm(e, epochs, 5 * whole, 1e-3, 1e-6, cooldown=10 * whole)
        for e in range(epochs)
    ]
    assert list(rates(runner)) == pytest.approx(expected, rel=1e-9)
    assert expected[-1] == 1e-6


@pytest.mark.parametrize("epochs", [None, 3])
@pytest.mark.parametrize(
    ("name", "own", "warmup", "lr"),
    [
        ("cluenet/cls_imagenet_small", 300, 1 / 15, 1e-3),
        ("clusterformer/cls_imagenet_small", 300, 1 / 15, 1e-3),
        ("cluenet/cls_digits", 20, 0.1, 2e-3),
        ("cluenet/mask_rcnn_digits", 10, 0.1, 1e-3),
        ("clusterformer/panoptic_digits", 24, 0.1, 1e-3),
    ],
)
def test_every_step_of_runs_of_epochs(name, own, warmup, lr, epochs, tmp_path):
    options = {"train_cfg.max_epochs": epochs} if epochs else {}
    seen = list(rates(prepare(name, tmp_path, options, epoch_length=10)))
    steps = 10 * (epochs or own)
    expected = [timm(i, steps, warmup * steps, lr, 1e-5) for i in range(steps)]
    assert seen == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("iterations", [2000, 100])
def test_digits_by_iteration(iterations, tmp_path):
    options = {"train_cfg.max_iters": iterations}
    seen = list(rates(prepare("fec/semantic_fpn_digits", tmp_path, options)))
    warmup = iterations // 40
    assert seen[0] == pytest.approx(1e-6)
    assert seen[1] - seen[0] == pytest.approx((1e-3 - 1e-6) / iterations * 40)
    for i in range(warmup + 1, iterations):
        left = (1 - i / iterations) ** 0.9
        assert seen[i] == pytest.approx(1e-5 + (1e-3 - 1e-5) * left, rel=1e-9), i


@pytest.mark.parametrize("iterations", [None, 1000])
@pytest.mark.parametrize(
    ("name", "own", "lr"),
    [
        ("coc/semantic_fpn_ade20k_small_4", 80_000, 1e-4),
        ("fec/semantic_fpn_ade20k_small", 80_000, 1e-4),
        ("cluenet/semantic_fpn_ade20k_tiny", 80_000, 1e-4),
        ("cluenet/semantic_fpn_camvid", 8_000, 4e-4),
    ],
)
def test_semantic_fpn(name, own, lr, iterations, tmp_path):
    options = {"train_cfg.max_iters": iterations} if iterations else {}
    seen = list(rates(prepare(name, tmp_path, options)))
    steps = iterations or own
    for i in range(0, steps, steps // 100):
        assert seen[i] == pytest.approx(lr * (1 - i / steps) ** 0.9, rel=1e-9), i


@pytest.mark.parametrize(
    ("name", "drops", "epochs", "gamma"),
    [
        ("cluenet/mask_rcnn_coco_tiny", (8, 11), 12, 0.1),
        ("cluenet/mask_rcnn_coco_small_ms3x", (27, 33), 36, 0.1),
        ("coc/mask_rcnn_coco_small_4", (8, 11), 12, 0.1),
        ("fec/mask_rcnn_coco_large", (8, 9, 11), 12, 0.2),
    ],
)
def test_mask_rcnn(name, drops, epochs, gamma, tmp_path):
    runner = prepare(name, tmp_path, epoch_length=100)
    assert runner.max_epochs == epochs
    seen = list(rates(runner))
    assert seen[0] == pytest.approx(2e-7)
    assert seen[250] == pytest.approx(1e-4, rel=0.01)
    for epoch in range(5, epochs):
        expected = 2e-4 * gamma ** sum(epoch >= drop for drop in drops)
        assert seen[epoch * 100] == pytest.approx(expected), epoch


@pytest.mark.parametrize(
    "name", ["clusterformer/det_coco_tiny", "cluenet/panoptic_coco_tiny_clusterformer"]
)
def test_decoder_on_coco(name, tmp_path):
    runner = prepare(name, tmp_path, epoch_length=100)
    groups = {
        key: list(rates(prepare(name, tmp_path, epoch_length=100), i))
        for i, key in enumerate(("backbone", "head"))
    }
    assert runner.max_epochs == 50
    for key, lr in (("backbone", 1e-5), ("head", 1e-4)):
        assert groups[key][0] == pytest.approx(1e-3 * lr)
        assert groups[key][600] == groups[key][3999] == pytest.approx(lr)
        assert groups[key][4000] == groups[key][4999] == pytest.approx(0.1 * lr)


@pytest.mark.parametrize("iterations", [None, 1600])
def test_decoder_on_ade20k(iterations, tmp_path):
    name = "clusterformer/semantic_ade20k_tiny"
    options = {"train_cfg.max_iters": iterations} if iterations else {}
    steps = iterations or 160_000
    for i, lr in enumerate((1e-5, 1e-4)):
        seen = list(rates(prepare(name, tmp_path, options), i))
        warmup = steps * 1500 / 160_000
        for step in range(0, steps, steps // 400):
            expected = lr * (1 - step / steps) ** 0.9
            if step < warmup:
                expected = 1e-6 + (lr - 1e-6) * step / warmup
            assert seen[step] == pytest.approx(expected, rel=1e-9), step


def test_the_batch_scales_the_rate(tmp_path):
    name = "cluenet/cls_cifar100"
    runner = prepare(name, tmp_path, {"auto_scale_lr.enable": True}, batch=64)
    expected = [timm(e, 105, 5, 1.5e-2 / 4, 1e-5) for e in range(105)]
    assert list(rates(runner)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("by_epoch", [True, False])
def test_groups_keep_their_multiples_and_none_rises_above_its_rate(by_epoch):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [
        {"params": [w], "lr": r} for w, r in zip(weights, (1, 0.1, 0), strict=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=1)
    schedule = WarmupLR(
        optimizer, end=8, warmup=0.25, start_lr=0.01, min_lr=0.2, by_epoch=by_epoch
    )
    seen = []
    for _ in range(8):
        seen.append([g["lr"] for g in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert seen[0] == pytest.approx([0.01, 0.01, 0])
    assert seen[4] == pytest.approx([0.6, 0.1, 0])


@pytest.mark.parametrize("decay", ["cosine", "poly"])
def test_a_resumed_schedule_goes_on_as_it_was(decay):
    def build():
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        item = {"type": "cluenet_mm.WarmupLR", "end": 20, "decay": decay, "warmup": 0.2}
        return sgd, PARAM_SCHEDULERS.build(item, default_args={"optimizer": sgd})

    def run(sgd, schedule, steps):
        for _ in range(steps):
            sgd.step()
            schedule.step()
            yield sgd.param_groups[0]["lr"]

    whole = list(run(*build(), 20))
    for stop in (2, 4, 13):
        sgd, schedule = build()
        seen = list(run(sgd, schedule, stop))
        states = copy.deepcopy((sgd.state_dict(), schedule.state_dict()))
        sgd, schedule = build()
        sgd.load_state_dict(states[0])
        schedule.load_state_dict(states[1])
        assert seen + list(run(sgd, schedule, 20 - stop)) == whole


@pytest.mark.parametrize(
    "options", [{"warmup": 1.0}, {"warmup": 0.6, "cooldown": 0.4}, {"decay": "linear"}]
)
def test_a_schedule_without_a_decay_is_refused(options):
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="cannot schedule"):
        WarmupLR(sgd, end=4, **options)
