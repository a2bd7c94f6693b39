import pytest
import torch
from torch.nn import functional as F

from cluenet_mm.ops import assign, implementation, nearest, unit
from cluenet_mm.ops.assign import tiled
from cluenet_mm.ops.implementation import current_implementation

SHAPES = [  # B, G, N, M, D
    (1, 1, 1, 1, 1),
    (2, 3, 35, 6, 5),
    (1, 1, 257, 130, 24),
    (3, 2, 64, 1, 33),
    (1, 4, 5, 40, 16),
]


def sample(shape, dtype=torch.float64, seed=0):
    batch, heads, num_points, num_centers, dims = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        return torch.randn(
            batch, heads, count, dims, dtype=torch.float64, generator=generator
        ).to(dtype)

    return draw(num_points), draw(num_centers)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile_bytes", [1, 64, 1000, 1 << 20], indirect=True)
def test_tiled_finds_what_the_table_says(shape, tile_bytes):
    points, centers = sample(shape)
    table = torch.cosine_similarity(points[:, :, :, None], centers[:, :, None], dim=-1)
    expected = table.max(-1)
    assert torch.equal(nearest(points, centers), expected.indices)
    index, cosine = assign(points, centers)
    assert torch.equal(index, expected.indices)
    torch.testing.assert_close(cosine, expected.values)


@pytest.mark.parametrize("impl", ["naive", "tiled", "auto"], indirect=True)
def test_strided_heads_give_the_same(impl):
    tokens, centers = torch.randn(2, 50, 3 * 8), torch.randn(2, 7, 3 * 8)
    heads = [x.unflatten(2, (3, 8)).transpose(1, 2) for x in (tokens, centers)]
    index, cosine = assign(*heads)
    with implementation("naive"):
        copied = assign(*[x.contiguous() for x in heads])
    assert torch.equal(index, copied.index)
    torch.testing.assert_close(cosine, copied.similarity)


@pytest.mark.parametrize("columns", [1, 2, 3, 100])
def test_ties_go_to_the_lowest_index(columns, monkeypatch):
    monkeypatch.setattr(tiled, "MAX_COLUMNS", columns)
    center = torch.tensor([3.0, 4.0])
    other = torch.tensor([-4.0, 3.0])
    centers = torch.stack([other, center, center, other, center]).view(1, 1, 5, 2)
    points = torch.stack([center, 2 * center, other, -other]).view(1, 1, 4, 2)
    expected = [1, 1, 0, 1]
    with implementation("naive"):
        assert nearest(points, centers).flatten().tolist() == expected
    for tile_bytes in (4, 40, 1000):
        monkeypatch.setitem(tiled.TILE_BYTES, "cpu", tile_bytes)
        index = nearest(points, centers)
        assert index.flatten().tolist() == expected


@pytest.mark.parametrize("columns", [1, 3, 100])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_the_same_on_all(columns, value, monkeypatch):
    monkeypatch.setattr(tiled, "MAX_COLUMNS", columns)
    points, centers = sample((1, 1, 12, 7, 4))
    points[0, 0, 3, 0] = value
    centers[0, 0, 2] = 0.0  # inf * 0 is NaN
    found = {}
    for bad_center in (False, True):
        if bad_center:
            centers[0, 0, 4:, 1] = value
        with implementation("naive"):
            index = nearest(points, centers)
        for tile_bytes in (40, 1 << 20):
            monkeypatch.setitem(tiled.TILE_BYTES, "cpu", tile_bytes)
            assert torch.equal(nearest(points, centers), index)
        found[bad_center] = index[0, 0].tolist()
    assert found[False][3] == 0
    assert found[True] == [0 if i == 3 else 4 for i in range(12)]


@pytest.mark.parametrize("columns", [512, 1024, 513, 40])
def test_blocks_of_a_row_find_its_first_maximum(columns):
    generator = torch.Generator().manual_seed(0)
    ties = torch.randint(0, 5, (2, 37, columns), generator=generator).float()
    holes = ties.clone()
    holes[torch.rand(holes.shape, generator=generator) < 0.01] = torch.nan
    for table in (ties, holes, torch.randn(3, columns, generator=generator)):
        score, index = tiled._row_max(table)
        expected = table.max(dim=-1)
        assert torch.equal(index, expected.indices)
        torch.testing.assert_close(score, expected.values, equal_nan=True)


def test_zero_vectors_stay_finite_in_half_precision():
    zeros = torch.zeros(1, 1, 3, 4, dtype=torch.float16, requires_grad=True)
    cosine = assign(zeros, torch.ones(1, 1, 2, 4, dtype=torch.float16)).similarity
    cosine.sum().backward()
    assert torch.equal(cosine, torch.zeros_like(cosine))
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize("impl", ["naive", "tiled"], indirect=True)
def test_gradcheck(impl):
    points, centers = (x.requires_grad_() for x in sample((2, 2, 9, 4, 3)))
    assert torch.autograd.gradcheck(
        lambda p, c: assign(p, c).similarity, (points, centers)
    )


def test_unit_points_promise_changes_nothing():
    points, centers = sample((1, 2, 40, 5, 8))
    full = assign(points, centers)
    promised = assign(unit(points), centers, unit_points=True)
    assert torch.equal(full.index, promised.index)
    torch.testing.assert_close(full.similarity, promised.similarity)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("impl", ["naive", "tiled"], indirect=True)
def test_low_precision_keeps_dtype_and_near_winners(dtype, impl):
    points, centers = sample((1, 2, 200, 20, 16), dtype)
    result = assign(points, centers)
    assert result.similarity.dtype == dtype
    table = F.normalize(points.double(), dim=-1) @ F.normalize(
        centers.double(), dim=-1
    ).transpose(-2, -1)
    won = table.gather(-1, result.index[..., None])[..., 0]
    # Rounding may swap near ties, by no more than a few units in the last place.
    assert (table.max(-1).values - won).max() < 4 * torch.finfo(dtype).eps


def test_memory_does_not_hold_the_table(monkeypatch):
    points, centers = sample((1, 1, 3000, 2000, 4), torch.float32)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel() * out.element_size())
            return out

    monkeypatch.setitem(tiled.TILE_BYTES, "cpu", 100_000)
    with Watch():
        assign(points, centers)
    assert largest <= 100_000


@pytest.mark.parametrize(
    ("points", "centers", "message"),
    [
        ((1, 4, 3), (1, 1, 2, 3), r"must be \(B, G, N, D\)"),
        ((1, 1, 4, 3), (1, 1, 2, 5), "agree in B, G and D"),
        ((1, 2, 4, 3), (1, 1, 2, 3), "agree in B, G and D"),
        ((1, 1, 4, 3), (1, 1, 0, 3), "at least one center"),
    ],
)
def test_bad_input_is_named(points, centers, message):
    with pytest.raises(ValueError, match=message):
        nearest(torch.zeros(points), torch.zeros(centers))


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 1), (7, 24)])
def test_unit_is_normalize(shape):
    x = torch.randn(shape, dtype=torch.float64)
    x[0] = 0
    results = []
    for function in (unit, lambda x: F.normalize(x, dim=-1)):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        out.backward(torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x))
        results.append((out.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])
    assert torch.autograd.gradcheck(unit, x[1:].requires_grad_())


def test_an_implementation_holds_inside_its_block():
    with implementation("naive"):
        with implementation("tiled"):
            assert current_implementation() == "tiled"
        assert current_implementation() == "naive"
        with pytest.raises(ValueError, match="at least one center"):
            nearest(torch.zeros(1, 1, 4, 3), torch.zeros(1, 1, 0, 3))
    assert current_implementation() == "auto"
    with (
        pytest.raises(ValueError, match="implementation 'dense': choose from auto"),
        implementation("dense"),
    ):
        pass
