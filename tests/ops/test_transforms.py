"""Second derivatives, torch.func, torch.compile and empty inputs of all primitives."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from cluenet_mm.ops import (
    assign,
    collect,
    dispatch,
    dispatch_project,
    em_step,
    hard_aggregate,
    implementation,
    nearest,
    soft_aggregate,
    soft_assign,
    unit,
)
from cluenet_mm.ops.assign import tiled


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


INDEX = torch.randint(0, 3, (2, 2, 7), generator=torch.Generator().manual_seed(0))
# Many points and few centers, so that the centers are projected.
MANY = torch.randint(0, 2, (2, 2, 9), generator=torch.Generator().manual_seed(1))


def project(centers, weights, projection, bias):
    layer = partial(F.linear, weight=projection, bias=bias)
    return dispatch_project(centers, MANY, weights, layer, bias)


def similarity(points, centers):
    return assign(points, centers).similarity


def naive(function):
    def run(*inputs):
        with implementation("naive"):
            return function(*inputs)

    return run


POINTS, CENTERS = (2, 2, 7, 3), (2, 2, 3, 3)
# name -> function of floating-point tensors, their shapes
CASES = {
    "unit": (unit, [POINTS]),
    "assign": (similarity, [POINTS, CENTERS]),
    "assign naive": (naive(similarity), [POINTS, CENTERS]),
    "dispatch": (partial(dispatch, index=INDEX), [CENTERS]),
    "collect": (partial(collect, index=INDEX, num_centers=3), [POINTS]),
    "dispatch_project": (project, [(2, 2, 2, 2), (2, 2, 9), (3, 4), (3,)]),
    "hard_aggregate": (
        lambda values, own: hard_aggregate(values, INDEX, own),
        [POINTS, CENTERS],
    ),
    "em_step": (
        lambda q, k, v: em_step(q, k, v, 0.7),
        [CENTERS, POINTS, POINTS],
    ),
    "em_step naive": (
        naive(lambda q, k, v: em_step(q, k, v, 0.7)),
        [CENTERS, POINTS, POINTS],
    ),
}
cases = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setitem(tiled.TILE_BYTES, "cpu", 100)


def example(name):
    function, shapes = CASES[name]
    inputs = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    return function, [x.requires_grad_() for x in inputs]


@cases
def test_second_derivatives(name):
    function, inputs = example(name)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("alone", range(3))
def test_second_derivatives_by_one_input_of_em_step(alone):
    function, inputs = example("em_step")

    def of_one(x):
        return function(
            *[x if i == alone else y.detach() for i, y in enumerate(inputs)]
        )

    assert torch.autograd.gradgradcheck(of_one, inputs[alone])


def test_attention_has_second_derivatives_where_pytorch_has():
    # scaled_dot_product_attention has none on a CPU, unless as plain products.
    inputs = [draw(1, 1, n, 3, seed=n).requires_grad_() for n in (2, 5, 5)]
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(
            lambda c, p, v, t: soft_aggregate(c, unit(p), v, t), (*inputs, tau)
        )


@cases
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_gradients_equal_eager_ones(name, backend):
    function, inputs = example(name)
    torch.compiler.reset()
    compiled = torch.compile(function, backend=backend, fullgraph=True)
    results = []
    for run in (function, compiled):
        out = run(*inputs)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        results.append((out, torch.autograd.grad(out, inputs, weight)))
    torch.testing.assert_close(results[0], results[1])
    assert all(grad.abs().max() > 0 for grad in results[1][1])


@cases
def test_func_grad_equals_autograd(name):
    function, inputs = example(name)
    everything = tuple(range(len(inputs)))
    found = torch.func.grad(lambda *x: function(*x).square().sum(), everything)(*inputs)
    expected = torch.autograd.grad(function(*inputs).square().sum(), inputs)
    torch.testing.assert_close(found, expected)


@cases
def test_vmap_equals_a_loop(name):
    function, inputs = example(name)
    stacked = [torch.stack([x, 2 * x, x - 1]) for x in inputs]
    found = torch.vmap(function)(*stacked)
    expected = torch.stack([function(*x) for x in zip(*stacked, strict=True)])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("batch", "num_points"), [(0, 5), (2, 0)])
def test_nothing_in_nothing_out(batch, num_points):
    points = torch.randn(batch, 2, num_points, 4, requires_grad=True)
    centers = torch.randn(batch, 2, 3, 4, requires_grad=True)
    layer = torch.nn.Linear(8, 6)
    index, cosine = assign(points, centers)
    outputs = [
        cosine,
        em_step(centers, points, points, 1.0),
        hard_aggregate(points, index, centers),
        dispatch(centers, index),
        collect(points, index, 3),
        dispatch_project(centers, index, cosine, layer, layer.bias),
    ]
    shapes = [tuple(out.shape) for out in outputs]
    n, c = (batch, 2, num_points), (batch, 2, 3, 4)
    assert shapes == [n, c, c, (*n, 4), c, (batch, num_points, 6)]
    assert nearest(points, centers).shape == n
    assert soft_assign(centers, points, 1.0).index.shape == n
    sum(out.sum() for out in outputs).backward()
    assert points.grad.isfinite().all()
    assert centers.grad.isfinite().all()


@pytest.mark.parametrize("tile_bytes", [1, 64, 1000, 50_000, 2 << 20], indirect=True)
@pytest.mark.parametrize("num_centers", [5, 64, 515, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_in_wide_tables_go_to_the_lowest_index(tile_bytes, num_centers, dtype):
    # An exact product: otherwise a BLAS may round equal columns apart.
    center = torch.zeros(1, 1, 1, 8, dtype=dtype)
    center[..., 2] = 3.0
    centers = torch.cat([-center.expand(1, 1, 3, 8), center.expand(1, 1, 5000, 8)], 2)
    points = center.expand(1, 1, 10, 8).clone()
    index = nearest(points, centers[:, :, :num_centers])
    assert (index == 3).all()
