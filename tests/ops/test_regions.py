import pytest
import torch

from cluenet_mm.ops import Folds, coordinates, grid_centers


def test_coordinates_run_from_minus_half_to_half():
    grid = coordinates(3, 5)
    assert grid.shape == (1, 2, 3, 5)
    assert grid[0, 0, :, 0].tolist() == [-0.5, 0.0, 0.5]
    assert grid[0, 1, 0].tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]


def test_a_side_of_one_is_finite():
    assert coordinates(1, 1).flatten().tolist() == [-0.5, -0.5]


def test_half_precision_tells_neighbors_apart_where_it_can():
    exact = coordinates(1344, 4)[0, 0, :, 0]
    half = coordinates(1344, 4, dtype=torch.float16)[0, 0, :, 0]
    torch.testing.assert_close(half, exact.half(), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (2, 3)])
def test_grid_centers_are_means_of_cells(size):
    x = torch.randn(2, *size, 3)
    centers = grid_centers(x, (4, 3))
    assert centers.shape == (2, 12, 3)
    height, width = size
    for i in range(4):
        for j in range(3):
            rows = slice(i * height // 4, -(-(i + 1) * height // 4))
            columns = slice(j * width // 3, -(-(j + 1) * width // 3))
            cell = x[:, rows, columns].mean((1, 2))
            torch.testing.assert_close(centers[:, 3 * i + j], cell)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((8, 12), (2, 3)), ((7, 5), (2, 2)), ((5, 9), (4, 1)), ((2, 3), (1, 1))],
)
def test_folding_and_back_is_the_identity(size, grid):
    x = torch.randn(2, *size, 3)
    folds = Folds.of(size, grid, x.device)
    regions = folds.fold(x)
    height, width = -(-size[0] // grid[0]), -(-size[1] // grid[1])
    assert regions.shape == (2 * grid[0] * grid[1], height, width, 3)
    assert torch.equal(folds.unfold(regions), x)
    for b in range(2):
        for i in range(grid[0]):
            for j in range(grid[1]):
                tile = x[b, i * height :, j * width :][:height, :width]
                region = regions[(b * grid[0] + i) * grid[1] + j]
                assert torch.equal(region[: tile.size(0), : tile.size(1)], tile)
    padded = height * grid[0] * width * grid[1]
    if padded == size[0] * size[1]:
        assert folds.valid is None
    else:
        assert folds.valid.sum() == size[0] * size[1]


def test_padding_takes_no_part_in_centers():
    x = torch.randn(2, 7, 5, 3)
    folds = Folds.of((7, 5), (2, 2), x.device)
    regions = folds.fold(x)
    centers = grid_centers(regions, (2, 3), folds.valid)
    last = centers.view(2, 2, 2, 6, 3)[:, 1, 1]  # 3 x 2 points, padded to 4 x 3
    tile = x[:, 4:, 3:]
    torch.testing.assert_close(last[:, 0], tile[:, :2, 0].mean(1))
    torch.testing.assert_close(last[:, 3], tile[:, 2, 0])
    # The third column of cells is all padding: it repeats the first cell.
    torch.testing.assert_close(last[:, 2], last[:, 0])
    torch.testing.assert_close(last[:, 5], last[:, 0])


def test_masked_centers_equal_the_released_where_the_map_divides():
    x = torch.randn(3, 8, 6, 2)
    everything = torch.ones(1, 8, 6, 1, dtype=torch.bool)
    torch.testing.assert_close(
        grid_centers(x, (2, 3), everything), grid_centers(x, (2, 3))
    )


def test_folds_are_differentiable():
    x = torch.randn(1, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    folds = Folds.of((5, 3), (2, 2), x.device)
    assert torch.autograd.gradcheck(
        lambda x: grid_centers(folds.fold(x), (2, 1), folds.valid), x
    )
    assert torch.autograd.gradcheck(lambda x: folds.unfold(folds.fold(x)), x)


@pytest.mark.parametrize("size", [(7, 5), (14, 12), (1, 9), (13, 2)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (4, 4)])
def test_halved_regions_hold_the_halved_map(size, grid):
    folds = Folds.of(size, grid, torch.device("cpu"), multiple=2)
    halved = folds.halved()
    assert halved.size == (-(-size[0] // 2), -(-size[1] // 2))
    if grid != (1, 1):
        assert folds.region == (2 * halved.region[0], 2 * halved.region[1])
    # Every point of the halved map is pooled from a point of the map.
    inside = torch.ones(1, *size, 1)
    valid = folds.fold(inside)
    mass = grid_centers(valid, halved.region).unflatten(1, halved.region)
    assert (halved.unfold(mass) > 0).all()


def test_the_mask_holds_the_points_of_the_map():
    folds = Folds.of((7, 5), (2, 2), torch.device("cpu"))
    mask = folds.point_mask(8)
    assert mask.shape == (8, 1, 12)
    assert mask.sum() == 2 * 7 * 5
    expected = folds.fold(torch.ones(2, 7, 5, 1)).flatten(1)
    assert torch.equal(mask[:, 0], expected)
    assert Folds.of((8, 6), (2, 2), torch.device("cpu")).point_mask(8) is None


def test_repeats_go_to_the_first_cell():
    folds = Folds.of((7, 5), (2, 2), torch.device("cpu"))
    index = torch.arange(6).expand(8, 2, 6)
    found = folds.without_repeats(index, (2, 3))
    # The regions on the right are two points wide: their third column is padding.
    for region in range(8):
        expected = [0, 1, 0, 3, 4, 0] if region % 2 else [0, 1, 2, 3, 4, 5]
        assert found[region].tolist() == [expected] * 2
