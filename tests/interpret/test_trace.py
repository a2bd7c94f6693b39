import numpy as np
import pytest
import torch
from families import ARCH, SMALL, families
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from cluenet_mm import config_path
from cluenet_mm.backbones import FEC, CLUENet, ClusterFormer, ContextCluster
from cluenet_mm.inference import build_model
from cluenet_mm.interpret import find_backbone, trace, tracing
from cluenet_mm.interpret.trace import Window
from cluenet_mm.layers import SoftAssignment
from cluenet_mm.ops import soft_assign

# Clusters a stage: centers times regions.
CLUSTERS = {
    CLUENet: (9, 9, 4, 4),
    ContextCluster: (4 * 16, 4 * 6, 9 * 4, 4),
    FEC: (9 * 9, 9 * 6, 4 * 4, 4),
    ClusterFormer: (9 * 9, 9 * 6, 6 * 4, 4),
}
HEAD_DIMS = {ClusterFormer: (8, 6, 8, 5)}  # the others: 4
# Families whose reducers are convolutions.
BY_PLACE = (ContextCluster, ClusterFormer)


def build(family, patch=(4, 4, 0), **options):
    torch.manual_seed(0)
    options = {**SMALL[family], **options}
    return family(**{**options, "arch": {**options["arch"], "patch": patch}})


@families
def test_a_trace_has_every_assignment_on_its_map(family):
    maps = trace(build(family), torch.randn(2, 3, 70, 103))
    assert maps.sizes == ((17, 25), (9, 13), (5, 7), (3, 4))
    assert [len(blocks) for blocks in maps.blocks] == [1, 2, 1, 1]
    for stage, heads in enumerate((1, 2, 2, 4)):
        count = CLUSTERS[family][stage]
        for block in maps.blocks[stage]:
            assert block.index.shape == (2, heads, *maps.sizes[stage])
            assert block.index.dtype == torch.int64
            assert block.index.min() >= 0
            assert block.index.max() < count
            assert block.similarity.shape == block.index.shape
            assert (block.similarity > 0).all()
            assert (block.similarity < 1).all()
            dims = HEAD_DIMS.get(family, (4,) * 4)[stage]
            assert block.centers.shape == (2, heads, count, dims)
            assert block.regions == (
                (1, 1) if family is CLUENet else find_fold_grid(family, stage)
            )
    for stage in range(3):
        height, width = maps.sizes[stage + 1]
        assert maps.pools[stage].shape == (2, *maps.sizes[stage])
        assert maps.pools[stage].min() >= 0
        assert maps.pools[stage].max() < height * width


def find_fold_grid(family, stage):
    fold = SMALL[family]["fold_grids"][stage]
    return fold if isinstance(fold, tuple) else (fold, fold)


def test_blocks_that_share_an_assignment_share_it_in_the_trace():
    image = torch.randn(1, 3, 32, 32)
    maps = trace(build(CLUENet), image)
    assert maps.blocks[1][0] is maps.blocks[1][1]
    assert maps.layers() == [(0, 0), (1, 0), (2, 0), (3, 0)]
    moved = maps.to("cpu")
    assert moved.layers() == maps.layers()
    assert torch.equal(moved.clusters(2), maps.clusters(2))
    maps = trace(build(FEC), image)
    assert maps.layers() == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 0)]


def test_a_trace_shows_what_the_forward_pass_used():
    model = build(CLUENet, arch={**ARCH, "depths": (2, 1, 1, 1), "pool_norm": True})
    seen = []
    model.stages[0][1].register_forward_hook(lambda *args: seen.append(args))
    maps = trace(model, torch.randn(1, 3, 32, 40))
    _, _, (_, shared) = seen[0]
    block = maps.blocks[0][1]
    assert torch.equal(block.index.flatten(2), shared.index)
    assert torch.equal(block.similarity.flatten(2), shared.similarity)


@pytest.mark.parametrize(
    "family", [CLUENet, ContextCluster, FEC], ids=lambda f: f.__name__
)
def test_points_join_the_most_similar_center_of_their_region(family):
    """From the features in front of the assignment, point by point."""
    model = build(family)
    seen = []
    layer = "key" if family is CLUENet else "feature"
    mixer = model.stages[0][0].mixer
    getattr(mixer, layer).register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    maps = trace(model, torch.randn(1, 3, 70, 103))
    block, (rows, columns) = maps.blocks[0][0], maps.sizes[0]
    centers = F.normalize(block.centers[0, 0], dim=-1)
    points = F.normalize(seen[0][0], dim=-1)  # one head of 4 numbers
    down, right = block.regions
    height, width = -(-rows // down), -(-columns // right)
    per_region = CLUSTERS[family][0] // (down * right)
    for row in range(rows):
        for column in range(columns):
            region = row // height * right + column // width
            cosine = centers @ points[row, column]
            own = cosine[region * per_region :][:per_region]
            won = block.index[0, 0, row, column]
            assert won // per_region == region
            assert cosine[won] >= own.max() - 1e-6
            scaled = torch.sigmoid(cosine[won])  # alpha = 1, beta = 0
            torch.testing.assert_close(block.similarity[0, 0, row, column], scaled)


@pytest.mark.parametrize("iterations", [1, 3])
def test_shared_points_go_to_the_center_of_their_largest_share(iterations):
    """From what the last iteration of ClusterFormer compared, point by point."""
    model = build(ClusterFormer, num_iterations=iterations)
    keys, queries = [], []
    mixer = model.stages[0][0].mixer
    mixer.key.register_forward_hook(lambda *args: keys.append(args[2]))
    mixer.clustering.query.register_forward_hook(lambda *args: queries.append(args[2]))
    maps = trace(model, torch.randn(1, 3, 70, 103))
    assert len(queries) == iterations
    block, (rows, columns) = maps.blocks[0][0], maps.sizes[0]
    torch.testing.assert_close(block.centers[0, 0], queries[-1].flatten(0, 1))
    height, width = -(-rows // 3), -(-columns // 3)
    for row in range(rows):
        for column in range(columns):
            region = row // height * 3 + column // width
            logits = queries[-1][region] @ keys[0][0, row, column] / 8**0.5
            share, center = logits.softmax(0).max(0)
            assert block.index[0, 0, row, column] == 9 * region + center
            torch.testing.assert_close(block.similarity[0, 0, row, column], share)


def test_a_block_is_asked_for_its_winners_once(monkeypatch):
    """Not once an iteration: the answer costs as much as an iteration."""
    model, asked = build(ClusterFormer, num_iterations=3), []
    blocks = [block.mixer.assignment for stage in model.stages for block in stage]

    def winner(self, *inputs):
        asked.append(self)
        return soft_assign(*inputs, self.scale)

    monkeypatch.setattr(SoftAssignment, "winner", winner)
    trace(model, torch.randn(1, 3, 64, 64))
    assert asked == blocks


@pytest.mark.parametrize("size", [(64, 64), (70, 103), (36, 132)])
def test_pooling_stays_in_its_region_and_fills_its_cells(size):
    """Cells of FEC's pooling, counted over the whole next map."""
    model = build(FEC)
    maps = trace(model, torch.randn(1, 3, *size))
    for i, pool in enumerate(maps.pools):
        (rows, columns), (height, width) = maps.sizes[i], maps.sizes[i + 1]
        down, right = model.reducers[i].fold_grid
        # Regions are a whole number of 2 x 2 cells, unless there is only one.
        cell_rows = height if down == 1 else -(-rows // (2 * down))
        cell_columns = width if right == 1 else -(-columns // (2 * right))
        row, column = torch.meshgrid(
            torch.arange(rows), torch.arange(columns), indexing="ij"
        )
        cell_row, cell_column = pool[0] // width, pool[0] % width
        assert cell_row.max() < height
        if down > 1:
            assert torch.equal(row // (2 * cell_rows), cell_row // cell_rows)
            assert torch.equal(
                column // (2 * cell_columns), cell_column // cell_columns
            )


@pytest.mark.parametrize("size", [(64, 64), (68, 104), (48, 136)])
def test_cells_are_the_means_of_the_points_that_a_trace_puts_there(size):
    """What FEC's pooling made of its points, from the cells of the trace."""
    model = build(FEC)
    values, cells = [], []
    for i in (0, 1):  # reducers with regions
        reducer = model.reducers[i]
        reducer.value.register_forward_hook(lambda *args: values.append(args[2]))
        reducer.norm.register_forward_hook(lambda *args: cells.append(args[1][0]))
    maps = trace(model, torch.randn(2, 3, *size))
    for value, found, pool in zip(values, cells, maps.pools, strict=False):
        own = F.avg_pool2d(
            value.permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False
        )
        for b in range(2):
            total, count = own[b].flatten(1).T.clone(), torch.ones(own[b, 0].numel())
            total.index_add_(0, pool[b].flatten(), value[b].flatten(0, 1))
            count += pool[b].flatten().bincount(minlength=len(count))
            expected = total / count[:, None]
            torch.testing.assert_close(found[b].flatten(0, 1), expected)


def test_a_pooled_point_is_most_similar_to_its_cell():
    """Of CLUENet's pooling on an odd map, from the features themselves."""
    model = build(CLUENet)
    seen = []
    model.reducers[0].feature.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    maps = trace(model, torch.randn(1, 3, 44, 60))
    points = seen[0].permute(0, 3, 1, 2)  # (1, C, 11, 15)
    centers = F.adaptive_avg_pool2d(points, maps.sizes[1])[0].flatten(1)
    cosine = F.normalize(points[0].flatten(1), dim=0).T @ F.normalize(centers, dim=0)
    chosen = cosine.gather(1, maps.pools[0][0].view(-1, 1))[:, 0]
    torch.testing.assert_close(chosen, cosine.amax(1))


@pytest.mark.parametrize("family", BY_PLACE, ids=lambda f: f.__name__)
def test_convolutions_pool_by_place(family):
    maps = trace(build(family), torch.randn(2, 3, 28, 36))
    assert maps.sizes[:2] == ((7, 9), (4, 5))
    row, column = torch.arange(7)[:, None] // 2, torch.arange(9) // 2
    assert torch.equal(maps.pools[0], (row * 5 + column).expand(2, -1, -1))


@families
def test_clusters_of_a_stage_follow_the_pooling(family):
    maps = trace(build(family), torch.randn(2, 3, 36, 28))
    assert torch.equal(maps.clusters(0), maps.blocks[0][0].index)
    assert torch.equal(maps.clusters(2, grid="map"), maps.blocks[2][0].index)
    deep, cells = maps.clusters(2), maps.cells(2)
    assert deep.shape == (2, 2, 9, 7)
    for b, i, j in ((0, 0, 0), (1, 8, 6), (0, 4, 2)):
        point = maps.pools[0][b, i, j]
        point = maps.pools[1][b].flatten()[point]
        assert cells[b, i, j] == point
        expected = maps.blocks[2][0].index[b].flatten(1)[:, point]
        assert torch.equal(deep[b, :, i, j], expected)
    assert torch.equal(maps.clusters(-2, -1), deep)


@pytest.mark.parametrize(
    ("window", "pixels", "count", "nearest", "held"),
    [
        (Window(4, 4, 0), 10, 2, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], 8),
        (Window(3, 1, 1), 5, 5, [0, 1, 2, 3, 4], 5),
        (Window(3, 2, 1), 7, 4, [0, 0, 1, 1, 2, 2, 3], 7),
        (Window(3, 2, 1), 6, 3, [0, 0, 1, 1, 2, 2], 6),
        (Window(7, 4, 3), 9, 3, [0, 0, 0, 1, 1, 1, 1, 2, 2], 9),
        (Window(2, 3, 0), 6, 2, [0, 0, 0, 1, 1, 1], [1, 1, 0, 1, 1, 0]),
    ],
    ids=str,
)
def test_pixels_belong_to_the_nearest_window(window, pixels, count, nearest, held):
    if isinstance(held, int):
        held = [i < held for i in range(pixels)]
    found = window.points(pixels, count)
    assert found[0].tolist() == nearest
    assert found[1].tolist() == [bool(x) for x in held]


@families
@pytest.mark.parametrize(
    ("patch", "size"),
    [((4, 4, 0), (39, 50)), ((3, 1, 1), (9, 8)), ((7, 4, 3), (33, 30))],
)
def test_a_pixel_without_a_cluster_is_one_that_changes_nothing(family, patch, size):
    """The embedding's gradient says which pixels its points saw."""
    model = build(family, patch)
    image = torch.randn(1, 3, *size, requires_grad=True)
    model.embed.projection(
        torch.cat([image, torch.zeros(1, 2, *size)], 1)
    ).square().sum().backward()
    used = (image.grad != 0).any(1)[0]
    maps = trace(model, image.detach())
    index = maps.clusters(-1, grid="pixels")
    assert index.shape == (1, 4, *size)
    assert torch.equal(index[0, 0] >= 0, used)
    assert torch.equal(maps.similarity(-1, grid="pixels")[0, 0].isnan(), ~used)
    assert (maps.cells(1, "pixels")[0] >= 0).equal(used)
    image_index = maps.clusters(-1, grid="image")
    assert torch.equal(image_index[index >= 0], index[index >= 0])
    assert image_index.min() >= 0


def test_a_pixel_has_the_cluster_of_its_patch():
    maps = trace(build(CLUENet), torch.randn(1, 3, 34, 40))
    points = maps.clusters(3)
    pixels = maps.clusters(3, grid="pixels")
    enlarged = points.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(pixels[:, :, :32], enlarged)
    assert (pixels[:, :, 32:] == -1).all()
    with pytest.raises(ValueError, match="grid must be one of"):
        maps.clusters(3, grid="pixel")


@families
def test_a_batch_is_traced_as_its_images_are(family):
    # In double precision: in single, rounding tips near ties on some processors.
    model = build(family).double()
    images = torch.randn(3, 3, 40, 36, dtype=torch.float64)
    together = trace(model, images)
    for i in range(3):
        alone = trace(model, images[i : i + 1])
        for stage in range(4):
            index = alone.clusters(stage, grid="pixels")
            assert together.clusters(stage, grid="pixels")[i : i + 1].equal(index)


@families
def test_a_trace_leaves_the_model_as_it_was(family):
    model = build(family, drop_path_rate=0.1).train()
    model.embed.eval()
    hooks = [len(m._forward_hooks) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    trace(model, torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match="smaller"):
        trace(model, torch.randn(1, 3, 2, 2))
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert [m.training for m in model.modules()] == modes
    assert sum(hooks) == 0


def test_the_backbone_is_found_inside_a_model():
    model = build(CLUENet)
    assert find_backbone(torch.nn.Sequential(torch.nn.ReLU(), model)) is model
    with pytest.raises(ValueError, match="cannot trace a Linear"):
        find_backbone(torch.nn.Linear(2, 2))


@families
def test_predictions_and_traces_of_the_same_pass(family):
    init_default_scope("mmpretrain")
    backbone = {"type": f"cluenet_mm.{family.__name__}", **SMALL[family]}
    model = MODELS.build(
        {
            "type": "ImageClassifier",
            "backbone": backbone,
            "neck": {"type": "GlobalAveragePooling"},
            "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 20},
        }
    ).eval()
    images = torch.randn(2, 3, 40, 36)
    with torch.no_grad():
        expected = model(images)
        with tracing(model) as traces:
            logits = model(images)
            assert torch.equal(logits, expected)
            model(images[:1])
        model(images)
    assert [maps.batch_size for maps in traces] == [2, 1]
    again = trace(model, images)
    for stage in range(4):
        assert torch.equal(traces[0].clusters(stage), again.clusters(stage))


@families
@pytest.mark.parametrize("with_cp", [False, True])
def test_a_training_step_can_be_traced(family, with_cp):
    model = build(family, with_cp=with_cp).train()
    with tracing(model) as traces:
        model(torch.randn(2, 3, 40, 36))[0].square().mean().backward()
    assert len(traces) == 1
    assert not traces[0].blocks[0][0].similarity.requires_grad
    assert not traces[0].blocks[0][0].centers.requires_grad


def test_a_failed_pass_leaves_no_trace():
    model = build(CLUENet)
    handle = model.stages[2].register_forward_pre_hook(lambda *args: 1 / 0)
    block = model.stages[2][0].register_forward_pre_hook(lambda *args: 1 / 0)
    with tracing(model) as traces:
        with pytest.raises(ZeroDivisionError):
            model(torch.randn(2, 3, 40, 36))
        handle.remove()
        block.remove()
        model(torch.randn(1, 3, 64, 64))
    assert [maps.sizes[0] for maps in traces] == [(16, 16)]


def test_points_of_nothing_but_the_first_stages():
    """A backbone whose last outputs are not built, as a detector may want it."""
    maps = trace(build(CLUENet, out_indices=(0, 1)), torch.randn(1, 3, 32, 32))
    assert len(maps.blocks) == len(maps.sizes) == 2
    assert len(maps.pools) == 1
    assert np.prod(maps.clusters(grid="image").shape) == 2 * 32 * 32


@pytest.mark.parametrize("task", ["mask_rcnn", "semantic_fpn"])
def test_a_dense_model_is_traced_while_it_predicts(task):
    torch.manual_seed(0)
    model = build_model(Config.fromfile(config_path(f"cluenet/{task}_digits")))
    image = torch.randint(256, (3, 100, 120), dtype=torch.uint8)
    kind = DetDataSample if task == "mask_rcnn" else SegDataSample
    meta = {"img_shape": (100, 120), "ori_shape": (100, 120), "scale_factor": (1, 1)}
    batch = {"inputs": [image], "data_samples": [kind(metainfo=meta)]}
    with tracing(model) as traces:
        [sample] = model.test_step(batch)
    assert "pred_instances" in sample or "pred_sem_seg" in sample
    [maps] = traces
    assert maps.image_size == (128, 128)  # padded to a multiple of 32
    assert maps.sizes[0] == (32, 32)
    heads = find_backbone(model).stages[-1][0].mixer.num_heads
    assert maps.clusters(grid="image").shape == (1, heads, 128, 128)
    inputs = model.data_preprocessor(batch)["inputs"]
    assert torch.equal(trace(model, inputs).clusters(1), maps.clusters(1))
