"""The fused kernel: on a GPU where there is one, else in Triton's interpreter."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cluenet_mm.ops import assign, em_step, implementation, nearest, unit
from cluenet_mm.ops.assign import _resolve

pytest.importorskip("triton")
from cluenet_mm.ops.assign.triton import search as kernel
from cluenet_mm.ops.recurrent_triton import em_sums, supports

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
    (1, 1, 17, 130, 300),
]
DTYPES = [torch.float16, torch.bfloat16, torch.float32]
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
    # Centers on the axes, so that every summation order gives the same scores.
    axes = torch.eye(8, device=device).view(1, 1, 8, 8).expand(1, 2, 8, 8)
    centers = axes.repeat_interleave(3, dim=2).repeat(1, 1, 5, 1)  # 120 centers
    points, _ = sample((1, 2, 70, 1, 8), torch.float32, device)
    index = search("triton", points, centers)
    assert torch.equal(index, 3 * points.argmax(-1))


@devices
@pytest.mark.parametrize("dims", [8, 200, 300])
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


@devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("splits", [2, 100])
def test_a_split_over_the_centers_changes_nothing(splits, dtype, device):
    points, centers = sample((2, 1, 20, 200, 24), dtype, device)
    points, centers = points.round(), centers.round()  # their products are exact
    centers[:, :, 100:150] = centers[:, :, :50]  # equals in different parts
    points[0, 0, 3, 5] = torch.nan
    points[0, 0, 4, 5] = torch.inf
    centers[1, 0, 130, 2] = torch.nan
    centers[1, 0, 190, 2] = torch.nan
    index, score = kernel(points, centers, splits=1)
    split_index, split_score = kernel(points, centers, splits=splits)
    assert torch.equal(split_index, index)
    torch.testing.assert_close(split_score, score, rtol=0, atol=0, equal_nan=True)
    assert index[0, 0, 3] == index[0, 0, 4] == 0
    assert (index[1, 0] == 130).all()
    sound = index[0, 0, 5:]
    assert ((sound < 100) | (sound >= 150)).all()


@devices
def test_few_points_and_many_centers(device):
    """On a GPU their size asks for the split."""
    points, centers = sample((1, 1, 49, 1500, 32), torch.float32, device)
    expected = (points.double() @ unit(centers.double()).mT).argmax(-1)
    assert torch.equal(search("triton", points, centers), expected)
    assert torch.equal(kernel(points, unit(centers), splits=12)[0], expected)


@devices
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides_will_do(dtype, device):
    base = torch.randn(2, 40, 3, 50, generator=torch.Generator().manual_seed(0))
    base = base.to(device, dtype)
    points = base.permute(0, 2, 1, 3)[..., ::2]
    centers = unit(base.flip(1).permute(0, 2, 1, 3)[..., 1::2])
    expected = kernel(points.contiguous(), centers.contiguous())
    for pair in ((points, centers), (points.mT.contiguous().mT, centers)):
        for found, wanted in zip(kernel(*pair), expected, strict=True):
            assert torch.equal(found, wanted)
    one = base[:1, :1, :1].permute(0, 2, 1, 3)
    index, _ = kernel(one.expand(2, 3, 70, 50), one.expand(2, 3, 9, 50))
    assert (index == 0).all()


@devices
def test_what_is_empty_stays_empty(device):
    for batch, num_points in ((0, 5), (2, 0)):
        points = torch.randn(batch, 3, num_points, 8, device=device)
        index, score = kernel(points, torch.randn(batch, 3, 4, 8, device=device))
        assert index.shape == score.shape == (batch, 3, num_points)
        assert index.dtype == torch.long
        keys = torch.randn(batch, 3, num_points, 8, device=device)
        queries = torch.randn(batch, 3, 4, 8, device=device)
        out = step("triton", queries, keys, keys, 1.0)
        assert torch.equal(out, torch.zeros(batch, 3, 4, 8, device=device))


@devices
def test_low_precision_products_of_fp32_are_asked_for(device):
    points, centers = sample((1, 2, 130, 70, 24), torch.float32, device)
    table = points.double() @ unit(centers.double()).mT
    index, score = kernel(points, unit(centers), precision="tf32x3")
    got = table.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    bound = 8 * torch.finfo(torch.float32).eps * points.norm(dim=-1)
    assert ((table.amax(-1) - got) <= bound).all()
    assert ((score - got).abs() <= bound).all()
    with pytest.raises(ValueError, match="cannot search with precision 'tf32'"):
        kernel(points, centers, precision="tf32")


def test_small_tables_are_not_worth_a_kernel():
    with FakeTensorMode():  # a GPU that need not be there
        for num_points, num_centers, dtype, expected in (
            (49, 49, torch.float16, "tiled"),
            (64, 64, torch.float32, "tiled"),
            (65, 49, torch.float32, "triton"),
            (49, 784, torch.bfloat16, "triton"),
            (784, 784, torch.float64, "tiled"),
        ):
            points = torch.empty(2, 1, num_points, 8, dtype=dtype, device="cuda")
            centers = torch.empty(2, 1, num_centers, 8, dtype=dtype, device="cuda")
            assert _resolve(points, centers) == expected


# ---- the EM step --------------------------------------------------------------------

EM_SHAPES = [  # (B, G, L, N, D, E) and whether some points are masked
    ((1, 1, 1, 1, 1, 1), False),
    ((2, 3, 49, 70, 24, 33), True),
    ((1, 2, 100, 65, 32, 32), False),
    ((1, 1, 250, 40, 16, 7), True),
    ((1, 1, 17, 40, 96, 128), False),
]


def step(name, *inputs):
    with implementation(name):
        return em_step(*inputs)


def em_sample(shape, dtype, device, masked):
    batch, heads, num_centers, num_points, dims, width = shape
    generator = torch.Generator().manual_seed(sum(shape))
    inputs = [
        torch.randn(batch, n, heads * d, generator=generator)
        .unflatten(2, (heads, d))
        .transpose(1, 2)
        .to(device, dtype)
        for n, d in ((num_centers, dims), (num_points, dims), (num_points, width))
    ]
    point_mask = torch.rand(batch, 1, num_points, generator=generator) > 0.3
    return inputs, point_mask.to(device, dtype) if masked else None


def em_and_gradients(inputs, point_mask, impl, dtype=None):
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
    point_mask = None if point_mask is None else point_mask.to(leaves[0].dtype)
    out = step(impl, *leaves, 1.5 * leaves[0].size(-1) ** -0.5, point_mask)
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    out.backward(weight.to(out.dtype))
    return [x.double() for x in (out, *(leaf.grad for leaf in leaves))]


@devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "masked"), EM_SHAPES)
def test_em_step_equals_the_definition(shape, dtype, masked, device):
    inputs, point_mask = em_sample(shape, dtype, device, masked)
    assert supports(*inputs)
    expected = em_and_gradients(inputs, point_mask, "naive", torch.float64)
    reference = em_and_gradients(inputs, point_mask, "naive")
    actual = em_and_gradients(inputs, point_mask, "triton")
    # fp32: sums in another order; 16 bits: at most twice as wrong as PyTorch.
    fp32 = dtype == torch.float32
    factor, tiny = (0, 1e-5) if fp32 else (2, torch.finfo(dtype).eps / 2)
    for a, r, e in zip(actual, reference, expected, strict=True):
        bound = factor * (r - e).abs().max() + tiny * e.abs().max() + 1e-7
        assert (a - e).abs().max() <= bound


@devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("splits", [1, 5])
def test_sums_keep_what_16_bits_of_shares_would_lose(splits, dtype, device):
    (queries, keys, values), point_mask = em_sample(
        (2, 2, 49, 300, 32, 16), dtype, device, True
    )
    total, mass = em_sums(queries, keys, values, point_mask, 0.3, splits)
    q, k, v = (x.double() for x in (queries, keys, values))
    shares = (0.3 * k @ q.mT).softmax(-1) * point_mask.double().unsqueeze(-1)
    torch.testing.assert_close(mass, shares.sum(-2).unsqueeze(-1).float())
    torch.testing.assert_close(total, (shares.mT @ v).float(), rtol=1e-5, atol=1e-5)


def test_em_sizes_beyond_the_kernel_take_the_tiles():
    inputs, _ = em_sample((1, 1, 300, 20, 8, 8), torch.float32, "cpu", False)
    assert not supports(*inputs)
    assert not supports(*em_sample((1, 1, 3, 2, 160, 8), torch.float32, "cpu", 0)[0])
    assert not supports(*(x.double() for x in inputs))
    found, expected = (step(impl, *inputs, 1.0) for impl in ("triton", "naive"))
    torch.testing.assert_close(found, expected)


# ---- what PyTorch sees --------------------------------------------------------------


@devices
def test_the_operators_are_what_they_declare(device):
    points, centers = sample((2, 1, 20, 9, 8), torch.float32, device)
    (queries, keys, values), point_mask = em_sample(
        (2, 2, 5, 20, 8, 4), torch.float32, device, True
    )
    torch.library.opcheck(kernel, (points, centers))
    for mask in (point_mask, None):
        torch.library.opcheck(em_sums, (queries, keys, values, mask, 0.5))


@devices
def test_vmap_is_a_larger_batch(device):
    points, centers = sample((6, 2, 20, 9, 8), torch.float32, device)
    split = points.unflatten(0, (3, 2)).movedim(0, 1)
    index = torch.vmap(lambda x, c: search("triton", x, c), in_dims=(1, 0), out_dims=0)(
        split, centers.unflatten(0, (3, 2))
    )
    assert torch.equal(index.flatten(0, 1), search("triton", points, centers))
    (queries, keys, values), point_mask = em_sample(
        (3, 2, 5, 20, 8, 4), torch.float32, device, True
    )
    expected = step("triton", queries, keys, values, 0.5, point_mask)
    stacked = (x.unsqueeze(1) for x in (keys, values, point_mask))
    found = torch.vmap(lambda k, v, m: step("triton", queries[:1], k, v, 0.5, m))(
        *stacked
    )
    assert torch.equal(found[0, 0], expected[0])


@devices
def test_em_step_is_differentiated_twice(device):
    inputs, point_mask = em_sample((1, 2, 5, 20, 8, 4), torch.float32, device, True)
    seconds = []
    for impl in ("naive", "triton"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = step(impl, *leaves, 0.5, point_mask)
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(x.square().sum() for x in first), leaves)
        seconds.append(second)
    for found, expected in zip(*seconds, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
