"""Recurrent cross-attention clustering against the paper's formulas, point by point."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from cluenet_mm.backbones import ClusterFormer
from cluenet_mm.backbones.clusterformer import RecurrentMixer
from cluenet_mm.layers.recurrent import standardize
from cluenet_mm.ops import merge_heads


def mixer_of(clusters, folds=(1, 1), iterations=3):
    torch.manual_seed(0)
    mixer = RecurrentMixer(12, 2, clusters, folds, iterations)
    mixer.clustering.query.weight.data *= 5  # so that shares are far from even
    return mixer.double()


def draw(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def cells(sides, grid):
    """Rows and columns of the cells of adaptive pooling in a region."""
    ranges = [
        [range(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
        for n, parts in zip(sides, grid, strict=True)
    ]
    return [list(itertools.product(*pair)) for pair in itertools.product(*ranges)]


def cluster(mixer, region, keys, values, clusters):
    """Message to every point of one region, which holds ``None`` for padding.

    Args:
        mixer: The mixer.
        region: Rows of points, each the index of a point or ``None``.
        keys: Of all points, a list of heads each.
        values: As keys.
        clusters: Rows and columns of centers.
    """
    heads, scale = range(2), 6**-0.5
    points = [p for row in region for p in row if p is not None]
    initial = []
    for cell in cells((len(region), len(region[0])), clusters):
        inside = [region[r][c] for r, c in cell if region[r][c] is not None]
        if inside:
            pooled = [sum(values[p][h] for p in inside) / len(inside) for h in heads]
            initial.append([mixer.initial(x) for x in pooled])
        else:  # a cell of nothing but padding begins as the first
            initial.append(initial[0])
    centers = initial
    for _ in range(mixer.clustering.num_iterations):
        table = torch.stack([torch.cat(center) for center in centers])
        deviations = table - sum(table) / len(table)
        variance = sum(deviations**2) / len(table)
        table = deviations / (variance + 1e-5).sqrt()
        queries = [mixer.clustering.query(row).split(6) for row in table]
        means = [[None, None] for _ in centers]
        for h in heads:
            total, mass = [0] * len(centers), [0] * len(centers)
            for p in points:
                shares = [(scale * q[h] @ keys[p][h]).exp() for q in queries]
                for i, share in enumerate(shares):
                    total[i] = total[i] + share / sum(shares) * values[p][h]
                    mass[i] = mass[i] + share / sum(shares)
            for i in range(len(centers)):
                means[i][h] = total[i] / mass[i]
        centers = means
    spoken = [
        [a[h] + b[h] for h in heads] for a, b in zip(initial, centers, strict=True)
    ]
    for p in points:
        yield (
            p,
            torch.cat(
                [
                    sum(
                        F.cosine_similarity(c[h], values[p][h], 0) * c[h]
                        for c in spoken
                    )
                    / len(spoken)
                    for h in heads
                ]
            ),
        )


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize(
    ("size", "folds", "clusters"),
    [
        ((4, 5), (1, 1), (2, 3)),
        ((4, 6), (2, 2), (2, 2)),
        ((5, 7), (2, 3), (2, 2)),  # padding
        ((5, 3), (4, 1), (2, 2)),  # a region, and cells, of nothing but padding
    ],
)
@torch.no_grad()
def test_a_mixer_is_its_definition(size, folds, clusters, iterations):
    mixer = mixer_of(clusters, folds, iterations)
    x = draw(1, *size, 12)
    keys = [point.split(6) for point in mixer.key(x).flatten(0, 2)]
    values = [point.split(6) for point in mixer.value(x).flatten(0, 2)]
    height, width = (-(-n // parts) for n, parts in zip(size, folds, strict=True))
    out = torch.full((*size, 12), torch.nan, dtype=torch.float64)
    for i, j in itertools.product(*map(range, folds)):
        rows = range(i * height, (i + 1) * height)
        columns = range(j * width, (j + 1) * width)
        region = [
            [r * size[1] + c if r < size[0] and c < size[1] else None for c in columns]
            for r in rows
        ]
        if not any(p is not None for row in region for p in row):
            continue
        for p, message in cluster(mixer, region, keys, values, clusters):
            out[divmod(p, size[1])] = message
    torch.testing.assert_close(mixer(x)[0], mixer.message(out[None]))


@torch.no_grad()
def test_the_order_of_the_centers_means_nothing():
    mixer, x = mixer_of((2, 3), (2, 2)), draw(2, 5, 7, 12)
    found = []
    mixer.clustering.register_forward_hook(lambda *args: found.append(args[2]))
    expected = mixer(x)[0]
    order = [4, 2, 0, 5, 1, 3]
    mixer.initial.register_forward_hook(lambda *args: args[2][:, :, order])
    torch.testing.assert_close(mixer(x)[0], expected)
    torch.testing.assert_close(found[1], found[0][:, order])
    assert not torch.allclose(found[1], found[0])


@torch.no_grad()
def test_only_differences_between_the_centers_count():
    """Neither what all centers share nor the scale of a channel changes the shares."""
    mixer, centers = mixer_of((2, 3)), draw(2, 6, 12)
    keys, values = draw(2, 2, 9, 6), draw(2, 2, 9, 6).flip(0)
    expected = mixer.clustering(centers, keys, values)
    moved = centers * draw(12).exp() + draw(12)
    means = mixer.clustering(moved, keys, values)
    torch.testing.assert_close(means, expected, rtol=0, atol=1e-3)
    assert not torch.allclose(expected[:, 0], expected[:, 1], atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_differences_count_in_low_precision(dtype):
    centers = (1e-2 * draw(2, 6, 12)).to(dtype)  # fp16 has few bits for the squares
    out = standardize(centers)
    assert out.dtype == dtype
    torch.testing.assert_close(out, standardize(centers.double()).to(dtype))


@torch.no_grad()
def test_equal_centers_share_alike():
    mixer = mixer_of((2, 3))
    keys, values = draw(2, 2, 9, 6), draw(2, 2, 9, 6).flip(0)
    means = mixer.clustering(torch.ones(2, 6, 12).double(), keys, values)
    expected = merge_heads(values.mean(dim=2, keepdim=True)).expand(-1, 6, -1)
    torch.testing.assert_close(means, expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("arch", "size", "clusters"),
    [("mini_cifar", 32, 4), ("tiny", 64, (7, 4, 4, 2)), ("small", 64, 4)],
)
def test_centers_stay_apart_and_queries_and_keys_learn(arch, size, clusters, seed):
    """At initialization, where even shares would give queries and keys no gradient."""
    torch.manual_seed(seed)
    model = ClusterFormer(arch, clusters)
    model.init_weights()
    steps = []
    for stage in model.stages:
        for block in stage:
            block.mixer.assignment.register_forward_hook(
                lambda module, inputs, means: steps.append((*inputs[:2], means))
            )
    out = model(torch.randn(2, 3, size, size))[-1].mean(dim=(2, 3))
    (out * torch.randn_like(out)).sum().backward()

    for queries, keys, means in steps:
        shares = (queries @ keys.mT * queries.size(-1) ** -0.5).softmax(dim=2)
        entropy = -(shares * shares.log()).sum(dim=2).mean()
        assert entropy < 0.95 * math.log(queries.size(2))
        spread = (means - means.mean(dim=2, keepdim=True)).norm() / means.norm()
        assert spread > 0.1
    for stage in model.stages:
        for block in stage:
            mixer = block.mixer
            least = mixer.value.weight.grad.norm() / 100
            for layer in (mixer.key, mixer.clustering.query, mixer.initial[0]):
                assert layer.weight.grad.norm() > least


@torch.no_grad()
def test_iterations_and_grids_are_no_weights():
    image = torch.randn(1, 3, 32, 32)
    model = ClusterFormer("mini_cifar", 4, num_iterations=3).eval()
    outputs = [model(image)[0]]
    for options in ({"num_iterations": 1}, {"cluster_grids": 5}, {"fold_grids": 2}):
        other = ClusterFormer("mini_cifar", **{"cluster_grids": 4, **options}).eval()
        other.load_state_dict(model.state_dict())
        outputs.append(other(image)[0])
    for a, b in itertools.combinations(outputs, 2):
        assert a.shape == b.shape
        assert not torch.allclose(a, b)


@pytest.mark.parametrize(
    ("arch", "options", "fault"),
    [
        ({}, {"num_iterations": 0}, "num_iterations must be positive, not 0"),
        ({}, {"cluster_grids": (4, 4, 0, 4)}, "cluster_grids must be"),
        ({"num_heads": (1, 2, 5, 7)}, {}, "7 heads do not divide 256 channels"),
    ],
    ids=["iterations", "grids", "heads"],
)
def test_options_that_cannot_be(arch, options, fault):
    arch = {**ClusterFormer.arch_settings["mini_cifar"], **arch}
    with pytest.raises(ValueError, match=fault):
        ClusterFormer(arch, **options)
