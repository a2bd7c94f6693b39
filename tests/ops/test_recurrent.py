"""Soft clustering: the definition, its gradient, and what EM promises."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from cluenet_mm.ops import em_step, implementation, soft_assign
from cluenet_mm.ops.assign import tiled

TILES = [64, 1000, None]  # one point at a time, a few, all


def draw(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


def example(points=23):
    members = (torch.arange(points) % 5 > 0).double().expand(2, 1, points)
    return (
        draw(2, 3, 4, 8),
        draw(2, 3, points, 8, seed=1),
        draw(2, 3, points, 6, seed=2),
        members,
    )


@pytest.mark.parametrize("tile_bytes", TILES, indirect=True)
@pytest.mark.parametrize("impl", ["naive", "tiled", "auto"], indirect=True)
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_is_the_weighted_mean_of_the_shares(impl, tile_bytes, masked):
    queries, keys, values, members = example()
    members = members if masked else None
    out = em_step(queries, keys, values, 0.7, members)
    for b in range(2):
        for g in range(3):
            logits = 0.7 * queries[b, g] @ keys[b, g].T  # (L, N)
            shares = logits.exp() / logits.exp().sum(0)
            if masked:
                shares = shares * members[b, 0]
            means = shares @ values[b, g] / shares.sum(1, keepdim=True)
            torch.testing.assert_close(out[b, g], means)


@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(impl, masked, monkeypatch):
    queries, keys, values, members = example(7)
    inputs = [x.requires_grad_() for x in (queries, keys, values)]
    members = members if masked else None

    monkeypatch.setitem(tiled.TILE_BYTES, "cpu", 300)

    def step(*inputs):
        return em_step(*inputs, 0.7, members)

    assert torch.autograd.gradcheck(step, inputs)


@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
def test_points_without_membership_have_no_influence(impl):
    queries, keys, values, _ = example()
    inside = torch.arange(23) < 15
    members = inside.double().expand(2, 1, 23)
    out = em_step(queries, keys, values, 1.0, members)
    alone = em_step(queries, keys[:, :, :15], values[:, :, :15], 1.0)
    torch.testing.assert_close(out, alone)
    keys.requires_grad_(), values.requires_grad_()
    em_step(queries, keys, values, 1.0, members).square().sum().backward()
    for x in (keys, values):
        assert (x.grad[:, :, 15:] == 0).all()
        assert (x.grad[:, :, :15] != 0).any()


@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
def test_nothing_but_padding_gives_zeros_and_no_nan(impl):
    inputs = [x.requires_grad_() for x in example()[:3]]
    out = em_step(*inputs, 1.0, torch.zeros(2, 1, 23, dtype=torch.float64))
    assert (out == 0).all()
    out.sum().backward()
    assert all((x.grad == 0).all() for x in inputs)


def euclidean(centers, points):
    """Queries and keys whose dot product ranks centers by Euclidean distance."""
    length = centers.square().sum(-1, keepdim=True)
    queries = torch.cat([centers, -length / 2], dim=-1)
    return queries, torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)


def blobs():
    """Points around four places, and four of the points to start from."""
    places = draw(4, 5, seed=3, scale=2.0)
    points = places.repeat(40, 1) + draw(160, 5, seed=4, scale=1.5)
    return points[None, None], points[None, None, [0, 4, 9, 30]]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
def test_at_temperature_zero_it_is_k_means(impl):
    points, centers = blobs()
    moved = []
    for _ in range(5):
        lloyd = KMeans(4, init=centers[0, 0].numpy(), n_init=1, max_iter=1)
        lloyd.fit(points[0, 0].numpy())
        queries, keys = euclidean(centers, points)
        new = em_step(queries, keys, points, 1e6)
        expected = torch.from_numpy(lloyd.cluster_centers_)
        torch.testing.assert_close(new[0, 0], expected)
        labels = soft_assign(*euclidean(new, points), 1e6).index[0, 0]
        assert np.array_equal(labels, lloyd.labels_)
        moved.append((new - centers).abs().max().item())
        centers = new
    assert moved[0] > moved[-1]


@pytest.mark.parametrize("temperature", [1e-6, 0.3, 2.0, 10.0])
def test_the_objective_never_increases(temperature):
    # Minus the log likelihood of an even mixture of Gaussians of this variance; towards
    # zero, and times the variance, the objective of k-means.
    points, centers = blobs()
    losses = []
    for _ in range(12):
        squares = torch.cdist(points[0, 0], centers[0, 0]).square()
        loss = -temperature * torch.logsumexp(-squares / (2 * temperature), dim=1)
        losses.append(loss.sum().item())
        queries, keys = euclidean(centers, points)
        centers = em_step(queries, keys, points, 1 / temperature)
    steps = np.diff(losses)
    assert steps[0] < -1
    assert (steps <= 1e-9 * abs(losses[0])).all()


@pytest.mark.parametrize("tile_bytes", TILES, indirect=True)
def test_the_winner_has_the_largest_share(tile_bytes):
    queries, keys, *_ = example()
    index, share = soft_assign(queries, keys, 0.7)
    shares = (0.7 * keys @ queries.transpose(-2, -1)).softmax(-1)
    torch.testing.assert_close(share, shares.amax(-1))
    assert torch.equal(index, shares.argmax(-1))
    assert not soft_assign(queries.requires_grad_(), keys, 1.0).similarity.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_adds_up_in_fp32(dtype):
    queries, keys, values, _ = (x.to(dtype) for x in example(5000))
    values = values + 30  # their sum does not fit fp16
    out = em_step(queries, keys, values, 1.0)
    expected = em_step(queries.float(), keys.float(), values.float(), 1.0)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.float(), expected, atol=0, rtol=torch.finfo(dtype).eps
    )


def test_tiles_keep_no_table_for_the_backward_pass():
    queries, keys, values, _ = example(500)
    for x in (queries, keys, values):
        x.requires_grad_()
    kept = {}
    for impl in ("naive", "auto"):
        sizes = []
        with (
            implementation(impl),
            torch.autograd.graph.saved_tensors_hooks(
                lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
            ),
        ):
            em_step(queries, keys, values, 1.0)
        kept[impl] = sum(sizes)
    table = 2 * 3 * 4 * 500
    assert kept["naive"] - kept["auto"] > table
