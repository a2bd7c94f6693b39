"""Native segmentation: memberships of the backbones, the head, losses, errors."""

import copy

import pytest
import torch
from families import SMALL, families

pytest.importorskip("mmseg")

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from cluenet_mm import config_path
from cluenet_mm.backbones import FEC, CLUENet, ClusterFormer, ContextCluster
from cluenet_mm.decoders import NativeSegHead
from cluenet_mm.decoders.native_seg_head import hand_back, label_shares, purity_loss
from cluenet_mm.interpret import trace
from cluenet_mm.layers.nearest_cells import NEVER, Membership

DIMS = (8, 12, 16, 20)
clustered = pytest.mark.parametrize("family", [CLUENet, FEC], ids=lambda f: f.__name__)
SIZE = (53, 90)
WAYS = {
    "hard": (1, {}),
    "bilinear": (1, {"upsample": "bilinear"}),
    "soft": (4, {"upsample": "soft"}),
    "purity": (4, {"purity_weight": 0.5}),
    "purity_soft": (4, {"purity_weight": 0.5, "upsample": "soft"}),
}
ways = pytest.mark.parametrize("way", WAYS)


def backbone(family, **options):
    torch.manual_seed(0)
    options = {"out_indices": (0, 1, 2, 3), "nearest_cells": 1, **options}
    return family(**SMALL[family], **options)


def head(stages=4, **options):
    torch.manual_seed(1)
    made = NativeSegHead(DIMS[-stages:], num_classes=3, **options)
    for classifier in (*made.finer, made.conv_seg):  # so that logits differ visibly
        torch.nn.init.normal_(classifier.weight)
    return made


def samples(*sizes):
    torch.manual_seed(2)
    found = []
    for size in sizes:
        sample = SegDataSample(metainfo={"img_shape": size, "ori_shape": size})
        labels = torch.randint(0, 3, (1, *size))
        labels[:, :4, :4] = 255
        sample.gt_sem_seg = PixelData(data=labels)
        found.append(sample)
    return found


def segmentor(family, way, **options):
    nearest, head_options = WAYS[way]
    init_default_scope("mmseg")
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type="EncoderDecoder",
            backbone={
                "type": f"cluenet_mm.{family.__name__}",
                **SMALL[family],
                "out_indices": (0, 1, 2, 3),
                "nearest_cells": nearest,
                **options,
            },
            decode_head={
                "type": "cluenet_mm.NativeSegHead",
                "in_channels": DIMS,
                "num_classes": 3,
                **head_options,
            },
            train_cfg={},
            test_cfg={"mode": "whole"},
        )
    )


# --- memberships ----------------------------------------------------------------------


@families
@pytest.mark.parametrize("size", [SIZE, (64, 64), (4, 4), (33, 4)])
def test_memberships_are_those_of_the_trace_and_leave_the_maps_alone(family, size):
    images = torch.randn(2, 3, *size)
    plain = backbone(family, nearest_cells=0).eval()
    alone = plain(images)
    model = backbone(family).eval()
    *maps, memberships = model(images)
    assert all(torch.equal(a, b) for a, b in zip(alone, maps, strict=True))
    for seen in (trace(plain, images), trace(model, images)):
        for pool, (index, similarity) in zip(seen.pools, memberships, strict=True):
            assert torch.equal(pool, index[:, 0])
            assert similarity is None


@families
def test_memberships_reach_as_far_as_the_stages(family):
    *maps, memberships = backbone(family, out_indices=(0, 2))(torch.randn(1, 3, 40, 40))
    assert len(maps) == len(memberships) == 2
    (x, none) = backbone(family, out_indices=0)(torch.randn(1, 3, 40, 40))
    assert x.shape == (1, 8, 10, 10)
    assert none == ()


@clustered
@pytest.mark.parametrize("size", [SIZE, (64, 64)])
def test_nearest_cells_begin_with_the_joined_one_and_fall_in_similarity(family, size):
    images = torch.randn(2, 3, *size)
    *_, one = backbone(family)(images)
    *_, several = backbone(family, nearest_cells=5)(images)
    for (index, _), (nearest, similarity) in zip(one, several, strict=True):
        assert torch.equal(index[:, 0], nearest[:, 0])
        assert nearest.shape == similarity.shape
        assert nearest.size(1) <= 5
        assert (similarity[:, :-1] >= similarity[:, 1:] - 1e-5).all()
        real = similarity > NEVER
        assert (similarity[real].abs() <= 1 + 1e-5).all()
        assert nearest.max() < -(-nearest.size(2) // 2) * -(-nearest.size(3) // 2)
        flat = nearest.masked_fill(~real, -1).sort(dim=1).values
        repeated = (flat[:, 1:] == flat[:, :-1]) & (flat[:, 1:] >= 0)
        assert not repeated.any()  # no cell counts twice


def test_similarities_are_cosines_of_features_and_their_means():
    model = backbone(CLUENet, nearest_cells=6).eval()
    seen = {}
    pool = model.reducers[0]
    pool.register_forward_hook(lambda m, args, out: seen.update(x=args[0], out=out))
    model(torch.randn(1, 3, 32, 48))
    features = pool.feature(seen["x"])[0]  # (8, 12, C)
    index, similarity = seen["out"][1]
    for row, column, k in ((0, 0, 0), (3, 5, 2), (7, 11, 5)):
        cell = int(index[0, k, row, column])
        top, left = 2 * (cell // 6), 2 * (cell % 6)
        center = features[top : top + 2, left : left + 2].mean(dim=(0, 1))
        expected = torch.cosine_similarity(features[row, column], center, dim=0)
        torch.testing.assert_close(similarity[0, k, row, column], expected)


@clustered
@pytest.mark.parametrize("size", [SIZE, (64, 64), (4, 4), (33, 4)])
def test_a_window_keeps_points_near_their_place(family, size):
    model = backbone(family, nearest_cells=9, pool_window=3).eval()
    images = torch.randn(2, 3, *size)
    *_, memberships = model(images)
    seen = trace(model, images)
    for pool, (index, similarity) in zip(seen.pools, memberships, strict=True):
        assert torch.equal(pool, index[:, 0])
        height, width = index.shape[2:]
        rows = (torch.arange(height) // 2)[:, None]
        columns = torch.arange(width) // 2
        row, column = index // ((width + 1) // 2), index % ((width + 1) // 2)
        assert row.max() < (height + 1) // 2
        assert (row - rows).abs().max() <= 1
        assert (column - columns).abs().max() <= 1
        assert (similarity[:, 0] > NEVER).all()


@clustered
def test_a_window_over_the_whole_map_is_the_pooling_of_the_release(family):
    options = {"fold_grids": 1} if family is FEC else {}
    images = torch.randn(2, 3, *SIZE)
    found = []
    for window in (0, 47):
        torch.manual_seed(0)
        model = family(
            **{**SMALL[family], **options},
            out_indices=(0, 1, 2, 3),
            nearest_cells=3,
            pool_window=window,
        )
        *maps, memberships = model.eval()(images)
        found.append([*maps, *(y for pair in memberships for y in pair)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [2, -1])
def test_a_window_has_an_odd_side(window):
    with pytest.raises(ValueError, match="odd side"):
        backbone(CLUENet, pool_window=window)


@pytest.mark.parametrize("family", [ContextCluster, ClusterFormer])
def test_convolutions_have_no_nearest_cells(family):
    with pytest.raises(ValueError, match=r"reducers of .* are convolutions"):
        backbone(family, nearest_cells=2)


@pytest.mark.parametrize("wrong", [-1, 1.5, None])
def test_a_number_of_cells_is_a_number(wrong):
    with pytest.raises(ValueError, match="nearest_cells must be an int"):
        backbone(CLUENet, nearest_cells=wrong)


# --- the head -------------------------------------------------------------------------


@families
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_hard_logits_are_those_of_the_cells_point_by_point(family, stages):
    model = backbone(family, out_indices=tuple(range(4 - stages, 4))).eval()
    ours = head(stages)
    outputs = model(torch.randn(2, 3, *SIZE))
    *maps, memberships = outputs
    logits = ours(outputs)
    weights = [c.weight[:, :, 0, 0] for c in (*ours.finer, ours.conv_seg)]
    height, width = memberships[0].index.shape[2:]
    assert logits.shape == (2, 3, height, width)
    for image, row, column in ((0, 0, 0), (1, 7, 3), (0, height - 1, width - 1)):
        expected = ours.conv_seg.bias.clone()
        place = row, column
        for stage in range(4):
            at = stage - (4 - stages)
            if at >= 0:
                expected = (
                    expected + weights[at] @ maps[at][(image, slice(None), *place)]
                )
            if stage < 3:
                cell = int(memberships[stage].index[(image, 0, *place)])
                size = [*(m.index.shape[2:] for m in memberships), maps[-1].shape[2:]]
                place = divmod(cell, size[stage + 1][1])
        torch.testing.assert_close(logits[image, :, row, column], expected)


def test_soft_logits_are_weighted_means_of_the_nearest_cells():
    index = torch.tensor([[[[0, 3]], [[1, 2]]]])  # (1, 2 cells, 1 row, 2 points)
    similarity = torch.tensor([[[[0.9, 0.1]], [[0.4, NEVER]]]])
    x = torch.randn(1, 3, 2, 2)
    ours = head(2, upsample="soft", temperature=0.5)
    found = ours._finer(x, Membership(index, similarity))[0, :, 0]
    share = torch.tensor([0.9, 0.4]).div(0.5).softmax(dim=0)
    flat = x[0].flatten(1)
    expected = share[0] * flat[:, 0] + share[1] * flat[:, 1]
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(found[:, 1], flat[:, 3])  # it has one cell only


def test_a_cold_softmax_is_the_hard_variant():
    outputs = backbone(CLUENet, nearest_cells=4).eval()(torch.randn(1, 3, *SIZE))
    hard = head()(outputs)
    cold = head(upsample="soft", temperature=1e-6)(outputs)
    torch.testing.assert_close(cold, hard)


def test_gradients_of_handing_back():
    index = torch.randint(0, 6, (2, 3, 4, 5))
    x = torch.randn(2, 2, 2, 3, dtype=torch.double, requires_grad=True)
    weights = torch.rand(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(hand_back, (x, index, weights))
    assert torch.autograd.gradgradcheck(hand_back, (x, index, weights))
    assert torch.autograd.gradcheck(lambda x: hand_back(x, index[:, :1]), (x,))


@families
@ways
def test_every_trained_parameter_gets_a_gradient(family, way):
    """Distributed training would wait for one that is missing."""
    if WAYS[way][0] > 1 and family in (ContextCluster, ClusterFormer):
        pytest.skip("convolutions have no nearest cells")
    model = segmentor(family, way).train()
    losses = model.loss(torch.randn(2, 3, *SIZE), samples(SIZE, SIZE))
    loss, _ = model.parse_losses(losses)
    assert loss.isfinite()
    assert ("decode.loss_purity" in losses) == way.startswith("purity")
    loss.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in trained.values())


@clustered
@pytest.mark.parametrize("way", ["hard", "soft"])  # purity is a loss
def test_compiled_is_eager(family, way):
    model = segmentor(family, way).eval()
    images = torch.randn(2, 3, 52, 64)
    expected = model(images)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected, atol=1e-4, rtol=1e-4)
    torch._dynamo.reset()


@clustered
@ways
def test_recomputed_activations_change_nothing(family, way):
    found = []
    for with_cp in (False, True):
        model = segmentor(family, way, with_cp=with_cp).train()
        torch.manual_seed(3)
        losses = model.loss(torch.randn(1, 3, *SIZE), samples(SIZE))
        model.parse_losses(losses)[0].backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@clustered
@ways
def test_autocast(family, way):
    model = segmentor(family, way).train()
    images = torch.randn(1, 3, *SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(images, samples(SIZE))
        assert model(images).dtype is torch.bfloat16
    loss = model.parse_losses(losses)[0]
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@clustered
def test_sliding_windows(family):
    model = segmentor(family, "hard").eval()
    images = torch.randn(1, 3, 48, 96)
    meta = [{"img_shape": (48, 96), "ori_shape": (48, 96), "pad_shape": (48, 96)}]
    left, right = (
        model.encode_decode(x, [{"img_shape": x.shape[2:]}])
        for x in images.split(48, dim=3)
    )
    model.test_cfg = ConfigDict(mode="slide", crop_size=(48, 48), stride=(48, 48))
    found = model.inference(images, copy.deepcopy(meta))
    torch.testing.assert_close(found, torch.cat([left, right], dim=3))


# --- the loss of memberships ----------------------------------------------------------


def test_shares_of_labels():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, :2, 2:] = 1
    labels[0, 2, :2] = 255
    labels[0, 2:, 2:] = 255
    found = label_shares(labels, 2, (2, 2))[0]
    assert found[:, 0, 0].tolist() == [1, 0]
    assert found[:, 0, 1].tolist() == [0, 1]
    assert found[:, 1, 0].tolist() == [1, 0]  # of the pixels that have a label
    assert found[:, 1, 1].tolist() == [0, 0]


def test_pure_cells_cost_nothing_and_mixed_ones_do():
    shares = torch.zeros(1, 2, 2, 2)
    shares[0, 0, :, 0] = shares[0, 1, :, 1] = 1  # left and right differ

    def loss(index, similarity):
        index = torch.tensor(index).view(1, 2, 2, 2)
        return purity_loss(shares, [Membership(index, similarity)], 0.1)

    sure = torch.tensor([1.0] * 4 + [-1.0] * 4).view(1, 2, 2, 2)
    # The map of cells has one cell of 2 x 2 points, so all points are in one.
    assert loss([0] * 8, sure) == pytest.approx(torch.tensor(2.0).log().item())
    # Two stages: 4 x 2 points in 2 x 1 cells of one class each.
    shares = torch.zeros(1, 2, 4, 2)
    shares[0, 0, :, 0] = shares[0, 1, :, 1] = 1
    index = torch.tensor([[0, 1]]).expand(4, 2)
    index = torch.stack([index, 1 - index]).unsqueeze(0)
    sure = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 2)
    pure = purity_loss(shares, [Membership(index, sure)], 0.1)
    assert pure < 1e-3
    unsure = sure * 0
    mixed = purity_loss(shares, [Membership(index, unsure)], 0.1)
    assert mixed == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-3)


def test_unlabeled_images_have_no_loss_of_memberships():
    model = segmentor(CLUENet, "purity").train()
    batch = samples(SIZE)
    batch[0].gt_sem_seg.data[:] = 255
    losses = model.loss(torch.randn(1, 3, *SIZE), batch)
    assert losses["decode.loss_purity"] == 0


@clustered
def test_the_loss_of_memberships_makes_cells_purer(family):
    model = backbone(family, nearest_cells=9).train()
    images = torch.zeros(2, 3, 64, 64)
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[0, 22:47, 10:39] = labels[1, 5:30, 30:60] = 1
    images += 0.2 * labels.unsqueeze(1) + 0.5 * torch.randn(2, 3, 64, 64)
    shares = label_shares(labels, 2, (16, 16))
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2
    )
    found = []
    for _ in range(15):
        loss = purity_loss(shares, model(images)[-1], 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.8 * found[0]


# --- errors ---------------------------------------------------------------------------


def test_a_backbone_without_memberships_is_named():
    outputs = backbone(CLUENet, nearest_cells=0)(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"returns maps alone. Set nearest_cells=1"):
        head()(outputs)


@pytest.mark.parametrize("options", [{"upsample": "soft"}, {"purity_weight": 1.0}])
def test_too_few_cells_are_named(options):
    outputs = backbone(CLUENet)(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"one cell a point. Set nearest_cells above"):
        head(**options)(outputs)


def test_another_number_of_stages_is_named():
    outputs = backbone(CLUENet, out_indices=(1, 2, 3))(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match="cannot classify 3 maps of 4 stages"):
        head(2)(outputs)


def test_a_gap_between_stages_is_named():
    outputs = backbone(CLUENet, out_indices=(1, 3))(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"map of .4, 4. points: stage 2 has .2, 2."):
        head(2)(outputs)


def test_label_maps_of_other_sizes_are_named():
    model = segmentor(CLUENet, "hard")
    with pytest.raises(ValueError, match=r"label maps of the sizes .*must be equal"):
        model.loss(torch.randn(2, 3, 32, 32), samples((32, 32), (32, 40)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsample": "nearest"}, "upsample must be one of"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"temperature": float("nan")}, "temperature must be positive"),
        ({"purity_weight": -1.0}, "purity_weight must not be negative"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        head(**options)


@pytest.mark.parametrize(
    ("native", "twin"),
    [
        ("cluenet/native_digits", "cluenet/semantic_fpn_digits"),
        ("cluenet/native_camvid", "cluenet/semantic_fpn_camvid"),
        ("cluenet/native_ade20k_tiny", "cluenet/semantic_fpn_ade20k_tiny"),
        (
            "cluenet/native_camvid_micro_pretrained",
            "cluenet/semantic_fpn_camvid_micro_pretrained",
        ),
        ("fec/native_camvid", "fec/semantic_fpn_camvid"),
        ("fec/native_digits", "fec/semantic_fpn_digits"),
        ("fec/native_ade20k_small", "fec/semantic_fpn_ade20k_small"),
        ("coc/native_digits", "coc/semantic_fpn_digits"),
    ],
)
def test_twins_differ_in_the_head_alone(native, twin):
    ours, theirs = (Config.fromfile(config_path(name)) for name in (native, twin))
    assert ours.model.backbone.pop("nearest_cells") >= 1
    ours.model.backbone.pop("pool_window", None)
    assert ours.model.decode_head.in_channels == theirs.model.neck.in_channels
    for key in ("num_classes", "ignore_index"):
        assert ours.model.decode_head.get(key) == theirs.model.decode_head.get(key)
    for cfg in (ours, theirs):
        cfg.model.pop("neck")
        cfg.model.pop("decode_head")
    assert ours.to_dict() == theirs.to_dict()
