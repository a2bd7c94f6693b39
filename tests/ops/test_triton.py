"""The fused kernel: on a GPU where there is one, else in Triton's interpreter."""

import pytest
import torch

from cluenet_mm.ops import assign, implementation, nearest, unit

pytest.importorskip("triton")
DEVICES = [
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(torch.cuda.is_available(), reason="runs on the GPU"),
    ),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
        ],
    ),
]
SHAPES = [  # B, G, N, M, D
    (1, 1, 1, 1, 1),
    (2, 3, 67, 5, 3),
    (1, 2, 130, 70, 24),
    (2, 1, 64, 65, 33),
    (1, 1, 20, 40, 196),
]
devices = pytest.mark.parametrize("device", DEVICES)


def sample(shape, dtype, device):
    batch, heads, num_points, num_centers, dims = shape
    generator = torch.Generator().manual_seed(sum(shape))
    points = torch.randn(batch, num_points, heads * dims, generator=generator)
    centers = torch.randn(batch, heads, num_centers, dims, generator=generator)
    points = points.unflatten(2, (heads, dims)).transpose(1, 2)  # heads are strided
    return points.to(device, dtype), centers.to(device, dtype)


def search(name, points, centers):
    with implementation(name):
        return nearest(points, centers)


def errors(points, centers, weight, impl):
    """Index, and similarity and gradients in double, of one implementation."""
    leaves = [x.detach().clone().requires_grad_() for x in (points, centers)]
    with implementation(impl):
        result = assign(*leaves)
    result.similarity.backward(weight.to(result.similarity.dtype))
    return result.index, [
        x.double() for x in (result.similarity, leaves[0].grad, leaves[1].grad)
    ]


@devices
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_gradients_equal_the_definition(shape, device):
    points, centers = sample(shape, torch.float32, device)
    weight = torch.linspace(-1, 1, points[..., 0].numel(), device=device)
    weight = weight.view(points.shape[:-1])
    expected_index, expected = errors(
        points.double(), centers.double(), weight, "naive"
    )
    index, actual = errors(points, centers, weight, "triton")
    assert torch.equal(index, expected_index)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-6)
    assert torch.equal(search("triton", points, centers), expected_index)


@devices
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_low_precision_is_at_most_twice_as_wrong_as_pytorch(shape, dtype, device):
    points, centers = sample(shape, dtype, device)
    weight = torch.linspace(-1, 1, points[..., 0].numel(), device=device)
    weight = weight.view(points.shape[:-1]).to(dtype)
    # Well-separated winners only: rounding may exchange the others.
    table = unit(points.double()) @ unit(centers.double()).transpose(-2, -1)
    top = table.topk(min(2, table.size(-1)), dim=-1).values
    clear = (top[..., 0] - top[..., -1] > 0.05) | (table.size(-1) == 1)
    weight = weight * clear
    expected_index, expected = errors(
        points.double(), centers.double(), weight, "naive"
    )
    index, actual = errors(points, centers, weight, "triton")
    reference_index, reference = errors(points, centers, weight, "naive")
    assert torch.equal(index[clear], expected_index[clear])
    assert torch.equal(reference_index[clear], expected_index[clear])
    tiny = torch.finfo(dtype).eps / 2
    masks = (clear, slice(None), slice(None))
    for a, r, e, m in zip(actual, reference, expected, masks, strict=True):
        if e[m].numel():
            bound = 2 * (r[m] - e[m]).abs().max() + tiny * e[m].abs().max()
            assert (a[m] - e[m]).abs().max() <= bound


@devices
def test_ties_go_to_the_lowest_index(device):
    # Centres on the axes, so that every summation order gives the same scores.
    axes = torch.eye(8, device=device).view(1, 1, 8, 8).expand(1, 2, 8, 8)
    centers = axes.repeat_interleave(3, dim=2).repeat(1, 1, 5, 1)  # 120 centres
    points, _ = sample((1, 2, 70, 1, 8), torch.float32, device)
    index = search("triton", points, centers)
    assert torch.equal(index, 3 * points.argmax(-1))


@devices
@pytest.mark.parametrize("dims", [8, 200])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_the_same(dims, value, device):
    points, centers = sample((1, 1, 20, 70, dims), torch.float32, device)
    points[0, 0, 3, 1] = value
    centers[0, 0, 2] = 0.0
    for bad_center in (None, 66):
        if bad_center:
            centers[0, 0, bad_center:, 0] = value
        expected = search("naive", points, centers)
        assert torch.equal(search("triton", points, centers), expected)
        assert expected[0, 0, 3] == 0
    assert (expected == 66).sum() == 19


def test_an_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="float64"):
        search("triton", *sample((1, 1, 4, 2, 3), torch.float64, "cpu"))
