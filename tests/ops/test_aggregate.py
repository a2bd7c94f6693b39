import pytest
import torch
from torch.nn import functional as F

from cluenet_mm.ops import (
    dispatch,
    dispatch_project,
    hard_aggregate,
    implementation,
    soft_aggregate,
    unit,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
@pytest.mark.parametrize("weighted", [False, True])
def test_hard_aggregate_is_the_weighted_mean_of_members(weighted, impl):
    values, initial = draw(2, 3, 20, 4), draw(2, 3, 5, 4, seed=1)
    index = torch.randint(0, 4, (2, 3, 20))  # center 4 has no member
    weights = draw(2, 3, 20, seed=2).abs() if weighted else None
    out = hard_aggregate(values, index, initial, weights)
    for b in range(2):
        for g in range(3):
            for m in range(5):
                members = index[b, g] == m
                w = weights[b, g, members] if weighted else torch.ones(members.sum())
                total = initial[b, g, m] + (w[:, None] * values[b, g, members]).sum(0)
                torch.testing.assert_close(out[b, g, m], total / (1 + w.sum()))
    torch.testing.assert_close(out[:, :, 4], initial[:, :, 4])


@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
def test_hard_aggregate_gradcheck(impl):
    values, initial = draw(2, 2, 6, 3), draw(2, 2, 3, 3, seed=1)
    weights = draw(2, 2, 6, seed=2).abs()
    index = torch.randint(0, 3, (2, 2, 6))
    for x in (values, initial, weights):
        x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, i, w: hard_aggregate(v, index, i, w),
        (values, initial, weights),
    )
    assert torch.autograd.gradcheck(
        lambda v, i: hard_aggregate(v, index, i), (values, initial)
    )


def test_hard_aggregate_counts_many_half_precision_members():
    # In fp16 arithmetic the sum would stop at 2048: 2048 + 1 == 2048.
    values = torch.ones(1, 1, 5000, 1, dtype=torch.float16)
    out = hard_aggregate(
        values, torch.zeros(1, 1, 5000, dtype=torch.long), values[:, :, :1]
    )
    assert out.dtype == torch.float16
    assert out.item() == 1.0


def test_soft_aggregate_is_the_softmax_over_points():
    centers, points, values = (draw(2, 3, n, 4, seed=n) for n in (5, 17, 18))
    values = values[:, :, :17]
    tau = torch.tensor(0.3, dtype=torch.float64)
    out = soft_aggregate(centers, unit(points), values, tau)
    cosine = torch.cosine_similarity(centers[:, :, :, None], points[:, :, None], dim=-1)
    torch.testing.assert_close(out, (cosine / tau).softmax(-1) @ values)


def test_soft_aggregate_gradcheck():
    centers, points, values = (draw(1, 2, n, 3, seed=n) for n in (2, 5, 6))
    tau = torch.tensor(0.5, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (centers, points, values[:, :, :5], tau)]
    assert torch.autograd.gradcheck(
        lambda c, p, v, t: soft_aggregate(c, unit(p), v, t), inputs
    )


def test_dispatch_gathers_and_its_gradient_scatters():
    centers = draw(2, 3, 5, 4).requires_grad_()
    index = torch.randint(0, 5, (2, 3, 11))
    out = dispatch(centers, index)
    expected = centers.gather(2, index[..., None].expand(-1, -1, -1, 4))
    assert torch.equal(out, expected)
    weight = draw(2, 3, 11, 4, seed=3)
    gradient = torch.autograd.grad(out, centers, weight)[0]
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, centers, weight)[0]
    )
    assert torch.autograd.gradcheck(lambda c: dispatch(c, index), centers)


def test_dispatched_heads_merge_without_a_copy():
    out = dispatch(draw(2, 3, 5, 4), torch.randint(0, 5, (2, 3, 11)))
    merged = out.transpose(1, 2).flatten(2)
    assert merged.shape == (2, 11, 12)
    assert merged.data_ptr() == out.data_ptr()


def layer(projection, bias):
    return lambda x: F.linear(x, projection, bias)


# More points than centers of all heads, and fewer: the two ways to project.
SIZES = pytest.mark.parametrize("num_points", [40, 11])


@SIZES
@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
def test_dispatch_project_merges_heads_and_projects(impl, num_points):
    centers, weights = draw(2, 3, 5, 4), draw(2, 3, num_points, seed=1)
    projection, bias = draw(7, 12, seed=2), draw(7, seed=3)
    index = torch.randint(0, 5, (2, 3, num_points))
    project = layer(projection, bias)
    out = dispatch_project(centers, index, weights, project, bias)
    points = dispatch(centers, index) * weights.unsqueeze(-1)
    expected = points.transpose(1, 2).flatten(2) @ projection.T + bias
    torch.testing.assert_close(out, expected)


@SIZES
@pytest.mark.parametrize("impl", ["naive", "auto"], indirect=True)
def test_dispatch_project_gradients(impl, num_points):
    inputs = [draw(1, 3, 5, 2), draw(1, 3, num_points), draw(2, 6), draw(2)]
    index = torch.randint(0, 5, (1, 3, num_points))

    def function(c, w, p, b):
        return dispatch_project(c, index, w, layer(p, b), b)

    inputs = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@SIZES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_at_most_twice_as_wrong_as_the_definition(dtype, num_points):
    inputs = [draw(2, 3, 5, 16), draw(2, 3, num_points, seed=1), draw(40, 48), draw(40)]
    index = torch.randint(0, 5, (2, 3, num_points))
    results = {}
    for impl, kind in (("naive", torch.float64), ("naive", dtype), ("auto", dtype)):
        leaves = [x.detach().to(kind).requires_grad_() for x in inputs]
        centers, weights, projection, bias = leaves
        project = layer(projection, bias)
        with implementation(impl):
            out = dispatch_project(centers, index, weights, project, bias)
        out.backward(draw(*out.shape, seed=5).to(kind))
        results[impl, kind] = [out.detach(), *(x.grad for x in leaves)]
    exact = results["naive", torch.float64]
    for e, r, a in zip(
        exact, results["naive", dtype], results["auto", dtype], strict=True
    ):
        errors = [(x.double() - e).square().mean().sqrt() for x in (a, r)]
        assert errors[0] <= 2 * errors[1]
