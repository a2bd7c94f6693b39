import pytest
import torch

from cluenet_mm.ops import coordinates, grid_centers


def test_coordinates_run_from_minus_half_to_half():
    grid = coordinates(3, 5)
    assert grid.shape == (1, 2, 3, 5)
    assert grid[0, 0, :, 0].tolist() == [-0.5, 0.0, 0.5]
    assert grid[0, 1, 0].tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]


def test_a_side_of_one_is_finite():
    assert coordinates(1, 1).flatten().tolist() == [-0.5, -0.5]


def test_half_precision_tells_neighbours_apart_where_it_can():
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
