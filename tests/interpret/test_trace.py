import numpy as np
import pytest
import torch

from cluenet_mm.backbones import CLUENet
from cluenet_mm.interpret import cluster_panel, find_backbone, trace
from cluenet_mm.interpret.draw import cluster_colors


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CLUENet("micro", cluster_grids=(4, 3, 2, 2), drop_path_rate=0.1).train()


def test_a_trace_has_every_assignment_on_its_map(model):
    maps = trace(model, torch.randn(2, 3, 37, 52))
    assert maps.sizes == [(9, 13), (5, 7), (3, 4), (2, 2)]
    assert list(maps.blocks) == [0, 1, 2, 3]
    for stage, heads, clusters in ((0, 1, 16), (1, 2, 9), (2, 5, 4), (3, 8, 4)):
        index = maps.blocks[stage]
        assert index.shape == (2, heads, *maps.sizes[stage])
        assert 0 <= index.min() <= index.max() < clusters
    for stage in range(3):
        height, width = maps.sizes[stage + 1]
        assert maps.pools[stage].shape == (2, *maps.sizes[stage])
        assert maps.pools[stage].max() < height * width


def test_a_trace_shows_what_the_forward_pass_used(model):
    model.eval()
    image = torch.randn(1, 3, 32, 40)
    seen = []
    handle = model.stages[0][1].register_forward_hook(lambda *args: seen.append(args))
    maps = trace(model, image)
    handle.remove()
    _, _, (_, shared) = seen[0]
    assert torch.equal(maps.blocks[0].flatten(2), shared.index)


def test_clusters_of_a_stage_follow_the_pooling(model):
    maps = trace(model, torch.randn(2, 3, 36, 28))
    assert torch.equal(maps.clusters(0), maps.blocks[0])
    deep = maps.clusters(2)
    assert deep.shape == (2, 5, 9, 7)
    for b, i, j in ((0, 0, 0), (1, 8, 6), (0, 4, 2)):
        point = maps.pools[0][b, i, j]
        point = maps.pools[1][b].flatten()[point]
        assert torch.equal(deep[b, :, i, j], maps.blocks[2][b].flatten(1)[:, point])


def test_a_trace_leaves_the_model_as_it_was(model):
    hooks = [len(m._forward_hooks) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    trace(model, torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match="smaller"):
        trace(model, torch.randn(1, 3, 2, 2))
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert [m.training for m in model.modules()] == modes


def test_the_backbone_is_found_inside_a_model(model):
    assert find_backbone(torch.nn.Sequential(torch.nn.ReLU(), model)) is model
    with pytest.raises(ValueError, match="Linear holds no clustering backbone"):
        find_backbone(torch.nn.Linear(2, 2))


def test_a_panel_colours_clusters_and_draws_their_borders():
    image = np.zeros((8, 8, 3), np.uint8)
    index = np.array([[7, 7], [3, 7]])
    panel = cluster_panel(image, index, opacity=1.0)
    first, second = cluster_colors(2)
    assert panel.shape == image.shape
    assert (panel[:3] == first).all()
    assert (panel[5:, :3] == second).all()
    assert (panel[4, :4] == 255).all()
    assert (panel[5:, 4] == 255).all()


def test_colors_are_distinct():
    assert len({tuple(c) for c in cluster_colors(32).tolist()}) == 32
