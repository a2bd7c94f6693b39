import numpy as np
import pytest
import torch

from cluenet_mm.interpret import (
    cluster_figure,
    cluster_panel,
    decision_figure,
    feature_colors,
    mean_colors,
    merge_clusters,
    to_input,
    to_picture,
    trace,
)
from cluenet_mm.interpret.figures import cluster_colors


def test_a_panel_colors_clusters_and_draws_their_borders():
    image = np.zeros((8, 8, 3), np.uint8)
    index = np.array([[7, 7], [3, 7]])
    panel = cluster_panel(image, index, opacity=1.0)
    first, second = cluster_colors(2)
    assert panel.shape == image.shape
    assert (panel[:3] == first).all()
    assert (panel[5:, :3] == second).all()
    assert (panel[4, :4] == 255).all()
    assert (panel[5:, 4] == 255).all()


def test_a_panel_takes_colors_and_leaves_pixels_without_a_cluster():
    image = np.full((36, 24, 3), 100, np.uint8)
    index = np.repeat([0, 2, -1], 12 * 24).reshape(36, 24)
    colors = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
    panel = cluster_panel(image, index, 0.5, colors)
    assert (panel[:12] == (150, 50, 50)).all()
    assert (panel[12] == 255).all()
    assert (panel[13:24] == (50, 50, 150)).all()
    assert (panel[24] == 255).all()
    assert (panel[25:] == 100).all()
    assert (cluster_panel(image, index)[25:] == 100).all()


def test_lines_fade_where_they_would_hide_the_clusters():
    image = np.zeros((32, 32, 3), np.uint8)
    index = np.indices((32, 32)).sum(0) % 2  # a chessboard of pixels
    index[:, 16:] = 0
    panel = cluster_panel(image, index, 1.0)
    assert panel[8, 8].max() < 255
    index[:, :8] = 0
    index[16:] = 1
    assert (cluster_panel(image, index, 1.0)[16, 24:] == 255).all()


def test_colors_are_distinct():
    assert len({tuple(c) for c in cluster_colors(32).tolist()}) == 32


def test_similar_centers_have_similar_colors():
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.normal(size=(4, 24)), 5, axis=0)
    centers = 3 * groups + 0.1 * rng.normal(size=groups.shape)
    index = np.arange(20)
    colors = feature_colors(centers, index).astype(int)
    distance = np.abs(colors[:, None] - colors).sum(-1)
    same = index[:, None] // 5 == index // 5
    assert distance[same].max() < distance[~same].min()
    # The length of a feature and what has no members have no say.
    assert (feature_colors(7 * centers, index) == colors).all()
    some = feature_colors(centers, np.array([0, 5, -1]))
    grey = some[1]
    assert (some[[2, 19]] == grey).all()
    assert np.ptp(grey) <= 1
    assert (some[0] != some[5]).any()


def test_colors_do_not_depend_on_the_run():
    """Neither the solver's signs nor rounding choose them."""
    centers = torch.randn(9, 16, generator=torch.Generator().manual_seed(3))
    index = np.arange(9)
    colors = feature_colors(centers, index).astype(int)
    noisy = centers.double() * (1 + 1e-7)
    assert np.abs(feature_colors(noisy, index) - colors).max() <= 1
    order = np.arange(9)[::-1].copy()
    assert np.abs(feature_colors(centers[order], index)[order] - colors).max() <= 1
    alike = np.ones((4, 8)) + 1e-8 * np.random.default_rng(0).normal(size=(4, 8))
    one = feature_colors(alike, np.arange(4))
    assert (one == one[0]).all()
    pair = feature_colors(np.eye(2), np.array([0, 1])).astype(int)
    assert np.abs(pair[0] - pair[1]).sum() > 200


def test_mean_colors():
    image = 4 * np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    index = np.array([[0, 0, 2, -1], [2, 2, 2, -1]])
    found = mean_colors(image, index, 3)
    assert found[0].tolist() == [6, 10, 14]  # of 0 and 12, 4 and 16, 8 and 20
    assert found[1].tolist() == [0, 0, 0]
    assert found[2].tolist() == [51, 55, 59]  # of 24, 48, 60 and 72, and so on


def test_merging_joins_the_most_similar_first():
    directions = np.deg2rad([0.0, 90, 5, 100, 200, 0])
    centers = np.stack([np.cos(directions), np.sin(directions)], 1) * 4
    index = np.array([[4, 3, 2], [1, 0, -1]])  # 5 has no members
    merged, features = merge_clusters(index, centers, 3)
    # 0 and 2 are one, 1 and 3 another, 4 the third; counted by their first old one.
    assert merged.tolist() == [[2, 1, 0], [1, 0, -1]]
    assert features.shape == (3, 2)
    np.testing.assert_allclose(features[2], centers[4] / 4)
    np.testing.assert_allclose(np.arctan2(*features[0, ::-1]), np.deg2rad(2.5))
    untouched, _ = merge_clusters(index, centers, 5)
    assert untouched.tolist() == index.tolist()
    assert merge_clusters(index, centers, 9)[0].tolist() == index.tolist()
    assert set(merge_clusters(index, centers, 1)[0].ravel()) == {0, -1}
    with pytest.raises(ValueError, match="at least 1, not 0"):
        merge_clusters(index, centers, 0)


def test_pictures_and_inputs_are_inverse(classifier):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    inputs = to_input(classifier, image)
    assert inputs.shape == (1, 3, 5, 7)
    assert (to_picture(classifier, inputs) == image).all()
    assert (to_picture(classifier, inputs[0]) == image).all()
    batch = {"inputs": [torch.from_numpy(image).permute(2, 0, 1)]}
    expected = classifier.data_preprocessor(batch)["inputs"]
    torch.testing.assert_close(inputs, expected)
    bare = classifier.backbone
    assert (to_picture(bare, to_input(bare, image)) == image).all()


def titles(figure):
    return [a.get_title() for a in figure.axes if a.get_title()]


def test_a_figure_has_a_row_a_head_and_a_column_a_stage(color_backbone, two_colors):
    maps = trace(color_backbone, two_colors)
    image = to_picture(color_backbone, 255 * two_colors)
    figure = cluster_figure(image, maps)
    assert titles(figure) == ["input", "stage 1: 2 clusters", "stage 2: 2 clusters"]
    photo = figure.axes[0].images[0].get_array()
    panel = figure.axes[1].images[0].get_array()
    scale = photo.shape[0] // 9
    assert (photo[::scale, ::scale] == image).all()
    line = (panel == 255).all(-1).all(0)
    assert np.flatnonzero(line).tolist() == [12 * scale]
    merged = cluster_figure(image, maps, merge=1)
    assert titles(merged)[1:] == ["stage 1: 1 cluster", "stage 2: 1 cluster"]


def test_a_figure_of_blocks_and_heads_and_of_a_part(classifier):
    maps = trace(classifier, torch.randn(2, 3, 64, 64))
    image = np.zeros((64, 40, 3), np.uint8)  # the rest had been padded
    figure = cluster_figure(image, maps, 1, max_heads=3, all_blocks=True)
    assert len(figure.axes) == 3 * 5
    assert titles(figure)[1].startswith("stage 1, block 1, head 1:\n")
    for coloring in ("mean", "palette"):
        cluster_figure(image, maps, coloring=coloring)
    with pytest.raises(ValueError, match="coloring must be one of"):
        cluster_figure(image, maps, coloring="rainbow")


def test_a_decision_shows_the_cells_of_a_pixel(color_backbone):
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 10:] = 200
    maps = trace(color_backbone, torch.from_numpy(image).permute(2, 0, 1)[None].float())
    figure = decision_figure(image, maps, (3, 12))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "stage 1: 4 pixels", "stage 2: 16 pixels"]
    with pytest.raises(ValueError, match="lies outside of the image"):
        decision_figure(image, maps, (3, 16))
