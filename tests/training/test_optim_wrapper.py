"""The guard against losses and gradients that are not finite."""

import logging
import os

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import distributed, multiprocessing, nn

from cluenet_mm.training import (
    GuardedAmpOptimWrapper,
    GuardedOptimWrapper,
    NonFiniteError,
)

BAD = (float("nan"), float("inf"), -float("inf"))


@pytest.fixture
def hub(request) -> MessageHub:
    return MessageHub.get_instance(request.node.name)


def make(kind=GuardedOptimWrapper, **options) -> tuple[nn.Module, OptimWrapper]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, kind(optimizer=optimizer, **options)


def batches(count: int) -> torch.Tensor:
    return torch.randn(count, 4, 3, generator=torch.Generator().manual_seed(1))


def train(model, wrapper, data, factors) -> None:
    for batch, factor in zip(data, factors, strict=True):
        with wrapper.optim_context(model):
            loss = model(batch).square().mean()
        wrapper.update_params(loss * factor)


def train_with_roots(model, wrapper, data, bad_at) -> None:
    """At ``bad_at``, a finite loss whose gradients are NaN: a square root at 0."""
    for index, batch in enumerate(data):
        with wrapper.optim_context(model):
            loss = model(batch).square().mean()
        if index in bad_at:
            root = (model.weight - model.weight.detach()).square().sum().sqrt()
            loss = loss + root
        assert loss.isfinite()
        wrapper.update_params(loss)


def skipped(hub: MessageHub) -> int:
    return int(hub.get_scalar("train/skipped_steps").current())


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", [GuardedOptimWrapper, GuardedAmpOptimWrapper])
def test_a_bad_step_is_as_if_it_had_not_been(hub, kind, bad):
    data = batches(5)
    model, wrapper = make(kind)
    train(model, wrapper, data, [1, 1, bad, 1, 1])
    reference, plain = make(kind)
    train(reference, plain, data[[0, 1, 3, 4]], [1] * 4)
    assert torch.equal(model.weight, reference.weight)
    assert wrapper.inner_count == 5
    assert skipped(hub) == 1


CLIPS = (None, {"max_norm": 0.1}, {"type": "value", "clip_value": 0.1})


@pytest.mark.parametrize("clip", CLIPS, ids=["free", "norm", "value"])
@pytest.mark.parametrize("kind", [GuardedOptimWrapper, GuardedAmpOptimWrapper])
def test_bad_gradients_of_a_finite_loss_are_skipped(hub, kind, clip):
    data = batches(5)
    model, wrapper = make(kind, clip_grad=clip and clip.copy())
    train_with_roots(model, wrapper, data, {2})
    reference, plain = make(kind, clip_grad=clip and clip.copy())
    train(reference, plain, data[[0, 1, 3, 4]], [1] * 4)
    assert torch.equal(model.weight, reference.weight)
    assert torch.equal(model.bias, reference.bias)
    assert skipped(hub) == 1
    if clip and "max_norm" in clip:
        assert all(map(np.isfinite, hub.get_scalar("train/grad_norm").data[0]))


def test_infinite_gradients_are_skipped_with_clipping_of_values(hub):
    """Which would make them finite."""
    model, wrapper = make(clip_grad={"type": "value", "clip_value": 0.1})
    before = model.weight.detach().clone()
    wrapper.update_params((model.weight - before).sqrt().sum())  # slope: infinity
    assert torch.equal(model.weight, before)


def test_bad_gradients_stop_the_training_like_losses(hub):
    model, wrapper = make(max_consecutive_skips=3)
    train_with_roots(model, wrapper, batches(1), {0})
    train(model, wrapper, batches(1), [BAD[0]])
    with pytest.raises(NonFiniteError, match=r"loss 0\.\d+ and gradient norm nan at"):
        train_with_roots(model, wrapper, batches(1), {0})


def test_without_bad_steps_it_is_mmengines(hub):
    data = batches(7)
    clip = {"max_norm": 0.1}
    model, wrapper = make(accumulative_counts=3, clip_grad=clip.copy())
    reference, plain = make(OptimWrapper, accumulative_counts=3, clip_grad=clip.copy())
    for wrapped, trained in ((wrapper, model), (plain, reference)):
        wrapped.initialize_count_status(trained, 0, 7)
        train(trained, wrapped, data, [1] * 7)
    assert torch.equal(model.weight, reference.weight)
    assert "train/skipped_steps" not in hub.log_scalars


@pytest.mark.parametrize("bad_at", [3, 4, 5])
@pytest.mark.parametrize("finite_loss", [False, True])
def test_a_bad_batch_drops_its_accumulation_window(hub, finite_loss, bad_at):
    data = batches(9)
    model, wrapper = make(accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 9)
    if finite_loss:
        train_with_roots(model, wrapper, data, {bad_at})
    else:
        train(model, wrapper, data, [BAD[0] if i == bad_at else 1 for i in range(9)])
    reference, plain = make(accumulative_counts=3)
    train(reference, plain, data[[0, 1, 2, 6, 7, 8]], [1] * 6)
    assert torch.equal(model.weight, reference.weight)
    assert wrapper.inner_count == 9
    assert skipped(hub) == 1


def test_training_stops_after_n_in_a_row_and_not_before(hub):
    model, wrapper = make(max_consecutive_skips=3)
    nan = BAD[0]
    train(model, wrapper, batches(7), [nan, nan, 1, nan, nan, 1, 1])
    assert skipped(hub) == 4
    with pytest.raises(NonFiniteError, match=r"3 steps in a row.*rate 0\.1") as seen:
        train(model, wrapper, batches(3), [nan] * 3)
    assert "iteration 10" in str(seen.value)
    assert isinstance(seen.value, FloatingPointError)
    assert torch.isfinite(model.weight).all()


def test_the_counts_are_resumed(hub):
    model, wrapper = make()
    train(model, wrapper, batches(3), [BAD[0], 1, BAD[0]])
    state = hub.state_dict()
    later = MessageHub.get_instance("resumed")
    model, wrapper = make(max_consecutive_skips=2)
    later.load_state_dict(state)
    with pytest.raises(NonFiniteError, match="2 steps in a row"):
        train(model, wrapper, batches(1), [BAD[0]])
    assert skipped(later) == 3


def test_amp_computes_in_bfloat16_on_a_cpu_and_restores_its_state(hub):
    model, wrapper = make(GuardedAmpOptimWrapper)
    with wrapper.optim_context(model):
        assert model(batches(1)).dtype == torch.bfloat16
    train(model, wrapper, batches(2), [1, 1])
    _, other = make(GuardedAmpOptimWrapper)
    state = wrapper.state_dict()
    other.load_state_dict(state)
    assert "loss_scaler" in state  # another caller may load it as well
    moments = [
        w.optimizer.state_dict()["state"][0]["exp_avg"] for w in (wrapper, other)
    ]
    assert torch.equal(*moments)
    _, plain = make()
    plain.load_state_dict(wrapper.state_dict())


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 works with a GPU")
def test_options_that_cannot_be_are_refused(hub):
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        make(GuardedAmpOptimWrapper, dtype="float16")
    with pytest.raises(ValueError, match="'float16' or 'bfloat16', got 'half'"):
        make(GuardedAmpOptimWrapper, dtype="half")
    with pytest.raises(ValueError, match="loss_scale must be"):
        make(GuardedAmpOptimWrapper, loss_scale="static")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make(max_consecutive_skips=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_overflow_is_the_scalers_business():
    hub = MessageHub.get_instance("overflow")
    model = nn.Linear(3, 1).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = GuardedAmpOptimWrapper(optimizer, loss_scale={"init_scale": 1e30})
    before = model.weight.clone()
    train(model, wrapper, batches(1).cuda(), [1])
    assert torch.equal(model.weight, before)
    assert wrapper.loss_scaler.get_scale() < 1e30
    assert "train/skipped_steps" not in hub.log_scalars


class RankModel(BaseModel):
    """Loss of a linear layer, infinite at the given calls, for one rank.

    Calls count from 1; at their negatives the loss is finite, its gradients are not.
    """

    def __init__(self, bad_calls: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.unused = nn.Linear(1, 1)
        self.bad_calls, self.calls = bad_calls, 0

    def forward(self, inputs, mode="loss"):
        self.calls += 1
        loss = self.linear(inputs).square().mean()
        if -self.calls in self.bad_calls:
            loss = loss + (self.linear.weight * 0).sum().sqrt()
        return {"loss": loss * (BAD[1] if self.calls in self.bad_calls else 1)}


def train_rank(rank, folder, amp, counts, factors_bad, kept) -> None:
    """Train one of two ranks and save its weights with those of a clean run."""
    distributed.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=2
    )
    results = []
    for name, bad in (("guarded", factors_bad), ("clean", ())):
        MessageHub.get_instance(name)
        torch.manual_seed(0)
        model = MMDistributedDataParallel(
            module=RankModel(bad if rank == 1 else ()), find_unused_parameters=True
        )
        kind = GuardedAmpOptimWrapper if amp else GuardedOptimWrapper
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapper = kind(optimizer, accumulative_counts=counts)
        for index, batch in enumerate(batches(6) + rank):
            if bad or index in kept:
                model.train_step({"inputs": batch}, wrapper)
        results.append(model.module.linear.weight.detach().clone())
        if bad:
            count = MessageHub.get_current_instance().get_scalar("train/skipped_steps")
            results.append(torch.tensor(count.current()))
    torch.save(results, os.path.join(folder, f"rank{rank}.pt"))
    # The model first: if it dropped the last reference to the group, PyTorch would join
    # gloo's threads while it holds the lock that they wait for.
    del model, optimizer, wrapper
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("amp", "counts", "bad", "kept"),
    [
        (False, 1, (3, -5), (0, 1, 3, 5)),
        (True, 2, (3, -6), (0, 1)),
    ],
    ids=["plain", "amp-accumulated"],
)
def test_all_ranks_skip_when_one_is_bad(tmp_path, amp, counts, bad, kept):
    args = (str(tmp_path), amp, counts, bad, kept)
    multiprocessing.spawn(train_rank, args=args, nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for guarded, count, clean in ranks:
        assert torch.equal(guarded, clean)
        assert int(count) == len(bad)
    assert torch.equal(ranks[0][0], ranks[1][0])


def test_every_skip_is_a_warning(hub):
    logger = MMLogger.get_instance("warnings_of_the_guard")
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger.addHandler(handler)
    model, wrapper = make()
    train(model, wrapper, batches(3), [1, BAD[1], 1])
    assert seen == [
        "Skipped a step: loss inf and gradient norm nan at iteration 2 must be finite "
        "on every rank (1 in a row, 1 in all)"
    ]
