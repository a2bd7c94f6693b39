"""Clustering inside regions against the definition, point by point."""

import pytest
import torch
from torch.nn import functional as F

from cluenet_mm.backbones import FEC, ContextCluster
from cluenet_mm.backbones.region import RegionMixer
from cluenet_mm.layers import ClusterPool, MapNorm

DIVIDED = {  # aggregate: (weight of a member, what it adds to the divisor)
    "weighted_mean": (lambda s: s, lambda s: s),
    "weighted_sum": (lambda s: s, lambda s: 1.0),
    "mean": (lambda s: 1.0, lambda s: 1.0),
}


def cells(side, parts, start, stop):
    """Ranges of adaptive pooling over ``side`` rows, cut to the rows of the map."""
    bounds = [(i * side // parts, -(-(i + 1) * side // parts)) for i in range(parts)]
    return [range(start + a, min(start + b, stop)) for a, b in bounds]


def regions(size, grid, multiple=1):
    """Sides of a region and its ranges of rows and columns, by region."""
    pairs = zip(size, grid, strict=True)
    sides = [multiple * -(-n // (g * multiple)) for n, g in pairs]
    for i in range(grid[0]):
        for j in range(grid[1]):
            yield (
                sides,
                (i * sides[0], j * sides[1]),
                range(i * sides[0], min((i + 1) * sides[0], size[0])),
                range(j * sides[1], min((j + 1) * sides[1], size[1])),
            )


def grid_means(x, sides, corner, grid):
    """Means of the cells of one region; ``None`` where a cell has no point."""
    height, width = x.shape[:2]
    found = []
    for rows in cells(sides[0], grid[0], corner[0], height):
        for columns in cells(sides[1], grid[1], corner[1], width):
            points = [x[r, c] for r in rows for c in columns]
            found.append(torch.stack(points).mean(0) if points else None)
    return found


def best(feature, centers):
    scores = [
        -2.0 if c is None else F.cosine_similarity(feature, c, 0).item()
        for c in centers
    ]
    return scores.index(max(scores)), max(scores)


@pytest.mark.parametrize("aggregate", DIVIDED)
@pytest.mark.parametrize(
    ("size", "folds", "grid"),
    [((6, 8), (3, 2), (2, 2)), ((7, 5), (2, 2), (2, 3)), ((5, 3), (4, 1), (1, 2))],
)
def test_a_mixer_is_its_definition(aggregate, size, folds, grid):
    torch.manual_seed(0)
    mixer = RegionMixer(6, 2, 4, grid, folds, aggregate).double()
    torch.nn.init.constant_(mixer.assignment.sim_alpha, 1.7)
    torch.nn.init.constant_(mixer.assignment.sim_beta, -0.3)
    x = torch.randn(1, *size, 6, dtype=torch.float64)
    weigh, count = DIVIDED[aggregate]
    with torch.no_grad():
        features = mixer.feature(x)[0].unflatten(-1, (2, 4))
        values = mixer.value(x)[0].unflatten(-1, (2, 4))
        out = torch.zeros(*size, 2, 4, dtype=torch.float64)
        for head in range(2):
            f, v = features[:, :, head], values[:, :, head]
            for sides, corner, rows, columns in regions(size, folds):
                centers = grid_means(f, sides, corner, grid)
                total = grid_means(v, sides, corner, grid)
                mass = [1.0] * len(total)
                joined = {}
                for r in rows:
                    for c in columns:
                        k, cosine = best(f[r, c], centers)
                        s = torch.tensor(1.7 * cosine - 0.3).sigmoid().item()
                        joined[r, c] = (k, s)
                        total[k] = total[k] + weigh(s) * v[r, c]
                        mass[k] += count(s)
                for (r, c), (k, s) in joined.items():
                    out[r, c, head] = s * total[k] / mass[k]
        expected = mixer.proj(out.flatten(2).unsqueeze(0))
        torch.testing.assert_close(mixer(x)[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("size", "folds"), [((8, 12), (2, 3)), ((7, 5), (1, 1)), ((7, 10), (2, 2))]
)
def test_a_pool_is_its_definition(size, folds):
    torch.manual_seed(0)
    pool = ClusterPool(5, 6, folds).double()
    x = torch.randn(1, *size, 5, dtype=torch.float64)
    half = [-(-n // 2) for n in size]
    with torch.no_grad():
        f, v = pool.feature(x)[0], pool.value(x)[0]
        out = torch.zeros(*half, 6, dtype=torch.float64)
        multiple = 1 if folds == (1, 1) else 2
        for sides, corner, rows, columns in regions(size, folds, multiple):
            grid = [-(-n // 2) for n in sides]
            centers = grid_means(f, sides, corner, grid)
            total = grid_means(v, sides, corner, grid)
            mass = [1] * len(total)
            for r in rows:
                for c in columns:
                    k, _ = best(f[r, c], centers)
                    total[k] = total[k] + v[r, c]
                    mass[k] += 1
            for k, (value, count) in enumerate(zip(total, mass, strict=True)):
                if centers[k] is not None:
                    row, column = divmod(k, grid[1])
                    out[corner[0] // 2 + row, corner[1] // 2 + column] = value / count
        expected = pool.norm(out.unsqueeze(0)) + pool.skip(x)
        torch.testing.assert_close(pool(x), expected)


def test_map_norm_is_group_norm_with_one_group():
    torch.manual_seed(0)
    norm = MapNorm(6).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64)
    expected = F.group_norm(x.permute(0, 3, 1, 2), 1, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x).permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize("family", [FEC, ContextCluster])
def test_initial_weights_are_the_releases(family):
    torch.manual_seed(0)
    model = family(out_indices=1)
    model.init_weights()
    block = model.stages[1][0]
    assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp.fc1.bias.abs().max() == 0
    # PyTorch's default of a convolution: uniform within 1 / sqrt(fan_in).
    bound = 64**-0.5
    assert 0.95 * bound < block.mixer.value.weight.abs().max() <= bound
    assert (block.scale1 == 1e-5).all()


def test_an_unknown_divisor_is_named():
    with pytest.raises(ValueError, match="divisor must be one of"):
        ContextCluster("tiny", divisor="count")
