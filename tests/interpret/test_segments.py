"""Segments merged from all stages."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from cluenet_mm.backbones import CLUENet
from cluenet_mm.interpret import trace
from cluenet_mm.interpret.quality import color_tree
from cluenet_mm.interpret.segments import merge_tree, segments


@pytest.fixture(scope="module")
def tree():
    torch.manual_seed(0)
    model = CLUENet("micro", cluster_grids=(4, 3, 2, 2)).eval()
    return merge_tree(trace(model, torch.randn(2, 3, 75, 90)), sample=1)


def test_every_cut_has_its_number_of_connected_segments_inside_the_coarser(tree):
    before = tree.cut(1)
    assert before.shape == (75, 90)
    assert (before == 0).all()
    for k in range(2, 66):
        found = tree.cut(k)
        assert np.array_equal(np.unique(found), np.arange(k))
        pairs = np.unique(np.stack([found, before]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == k  # each lies in one
        assert all(label(found == i)[1] == 1 for i in range(k))
        before = found


def test_two_colors_are_two_segments(color_backbone, two_colors):
    tree = merge_tree(trace(color_backbone, two_colors))
    found = tree.cut(2)
    assert (found[:, :12] == found[0, 0]).all()
    assert (found[:, 12:] == 1 - found[0, 0]).all()


def test_more_segments_than_points_are_the_points(color_backbone, two_colors):
    maps = trace(color_backbone, two_colors)
    found = merge_tree(maps).cut(1000)
    assert len(np.unique(found)) == maps.sizes[0][0] * maps.sizes[0][1]
    with pytest.raises(ValueError, match="cannot cut to 0 segments"):
        merge_tree(maps).cut(0)


def test_colors_weights_and_descriptions_change_the_merges(color_backbone, two_colors):
    maps = trace(color_backbone, two_colors)
    image = np.zeros((9, 16, 3), np.uint8)
    image[:4] = 255  # another border than that of the maps
    found = merge_tree(maps, image=image, color_weight=100).cut(2)
    assert (found[:4] == found[0, 0]).all()
    assert (found[4:] == 1 - found[0, 0]).all()
    for describe in ("features", "centers"):
        found = merge_tree(maps, describe=describe, weights=(1, 0)).cut(2)
        assert found.dtype == torch.int64
        assert (found[:, :12] == found[0, 0]).all()
        assert (found[:, 12:] == 1 - found[0, 0]).all()
    for options in ({"weights": (1,)}, {"weights": (1, -1)}, {"weights": (0, 0)}):
        with pytest.raises(ValueError, match="cannot"):
            merge_tree(maps, **options)
    with pytest.raises(ValueError, match="cannot describe points by 'maps'"):
        merge_tree(maps, describe="maps")
    with pytest.raises(ValueError, match="cannot use colors of an image"):
        merge_tree(maps, image=image[:8])


def test_segments_that_need_not_be_connected(color_backbone):
    image = torch.zeros(1, 3, 8, 16)
    image[:, 0] = 1
    image[:, :, :, 4:12] = 0  # red, black, red
    maps = trace(color_backbone, image)
    found = merge_tree(maps, connected=False, weights=(1, 0)).cut(2)
    assert found[0, 0] == found[0, 15] != found[0, 8]
    connected = merge_tree(maps, weights=(1, 0)).cut(2)
    assert connected[0, 0] != connected[0, 15]


def test_one_point_is_one_segment(color_backbone):
    image = torch.rand(1, 3, 3, 3)
    assert (segments(trace(color_backbone, image), 4) == 0).all()
    assert (color_tree(np.zeros((1, 1, 3), np.uint8)).cut(2) == 0).all()
