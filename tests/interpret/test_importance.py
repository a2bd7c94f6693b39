import numpy as np
import pytest
import torch
from torch import nn

from cluenet_mm.interpret import (
    class_probabilities,
    curves,
    faithfulness,
    grad_cam,
    importance,
    importances,
    receptive_fields,
    stage_input,
    trace,
)

# Four pixels; the probability of class 1 is the sum of those that are there.
WEIGHTS = torch.tensor([[0.2, 0.0], [0.5, 0.3]])
IMAGE = torch.ones(3, 2, 2)
MASKS = torch.eye(4, dtype=torch.bool).view(4, 2, 2)
RANKING = torch.tensor([2, 3, 0, 1])


def predict(images):
    found = (images[:, 0] * WEIGHTS).sum((1, 2))
    return torch.stack([1 - found, found], 1)


def test_importance_is_the_mean_of_drop_and_what_is_kept():
    found = importance(predict, IMAGE, MASKS, label=1)
    weights = WEIGHTS.flatten().double()
    assert found.full == pytest.approx(1)
    torch.testing.assert_close(found.drop, weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.kept, weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.score, weights, atol=1e-6, rtol=0)
    assert found.order.tolist() == [2, 3, 0, 1]
    # For the other class, full = 0, blanked w, kept 1 - w: the score is 1/2 - w.
    other = importance(predict, IMAGE, MASKS, label=0)
    torch.testing.assert_close(other.score, 0.5 - weights, atol=1e-6, rtol=0)
    assert other.order.tolist() == [1, 0, 3, 2]


def test_blanked_pixels_take_the_given_value():
    half = importance(predict, IMAGE, MASKS, 1, blank=0.5)
    weights = WEIGHTS.flatten().double()
    torch.testing.assert_close(half.blanked, 1 - weights / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(half.kept, 0.5 + weights / 2, atol=1e-6, rtol=0)
    per_channel = importance(predict, IMAGE, MASKS, 1, torch.tensor([0.5, 7.0, -1]))
    assert torch.equal(per_channel.score, half.score)


def test_regions_are_predicted_in_batches_that_classes_share():
    sizes = []

    def counting(images):
        sizes.append(len(images))
        return predict(images)

    both = importances(counting, IMAGE, MASKS, [0, 1], batch_size=4)
    assert sizes == [4, 4, 1]
    importances(counting, IMAGE, MASKS, [0, 1])
    assert sizes[3:] == [9]
    for label, found in enumerate(both):
        expected = importance(predict, IMAGE, MASKS, label)
        assert found.full == expected.full
        assert torch.equal(found.score, expected.score)


def test_curves_are_what_the_hand_counts():
    inserted, deleted = curves(predict, IMAGE, MASKS, RANKING, 1)
    np.testing.assert_allclose(deleted.fractions, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(deleted.probabilities, [1, 0.5, 0.2, 0, 0], atol=1e-6)
    assert deleted.area == pytest.approx((0.75 + 0.35 + 0.1 + 0) / 4)
    np.testing.assert_allclose(inserted.probabilities, [0, 0.5, 0.8, 1, 1], atol=1e-6)
    assert inserted.area == pytest.approx((0.25 + 0.65 + 0.9 + 1) / 4)


def test_a_curve_counts_pixels_and_leaves_those_in_no_region():
    masks = torch.stack([WEIGHTS == 0.5, WEIGHTS == 0.2]) | torch.zeros(2, 2, 2).bool()
    masks[0] |= WEIGHTS == 0  # two pixels, one, and one in no region (0.3)
    _, curve = curves(predict, IMAGE, masks, torch.tensor([0, 1]), 1)
    np.testing.assert_allclose(curve.fractions, [0, 2 / 3, 1])
    np.testing.assert_allclose(curve.probabilities, [1, 0.5, 0.3], atol=1e-6)


def test_faithfulness_of_the_best_ranking():
    found = faithfulness(predict, IMAGE, MASKS, 1, random_orders=40)
    assert found.insertion == pytest.approx(0.7)
    assert found.deletion == pytest.approx(0.3)
    # The mean of all orders is the diagonal.
    assert found.random_insertion == pytest.approx(0.5, abs=0.05)
    assert found.random_deletion == pytest.approx(0.5, abs=0.05)
    assert found.regions == 4
    assert found == faithfulness(predict, IMAGE, MASKS, 1, random_orders=40)
    alone = faithfulness(predict, IMAGE, MASKS, 1, random_orders=0)
    assert alone.insertion == found.insertion
    assert np.isnan(alone.random_insertion)


@pytest.mark.parametrize("stage", [0, 1])
def test_fields_of_a_known_model_are_its_colors(color_backbone, two_colors, stage):
    maps = trace(color_backbone, two_colors)
    assert maps.sizes == ((4, 8), (2, 4))
    fields = receptive_fields(maps, stage=stage)
    red, blue = (two_colors[0, c].bool() for c in (0, 2))
    red[8:] = blue[8:] = False  # in no patch
    assert fields.clusters.tolist() == [0, 1]
    assert torch.equal(fields.masks, torch.stack([red, blue]))
    # Every point is its own color; the right center is a mix of red and blue.
    torch.testing.assert_close(
        maps.blocks[stage][0].centers[0, 0],
        torch.tensor([[1.0, 0, 0], [0.5, 0, 0.5]]),
    )
    cosine = torch.tensor([1.0, 0.5**0.5])
    similarity = maps.similarity(stage, grid="pixels")[0, 0]
    for mask, expected in zip(fields.masks, cosine, strict=True):
        assert torch.allclose(similarity[mask], torch.sigmoid(expected))


def test_pixels_in_no_field_change_nothing(classifier):
    images = torch.randn(1, 3, 39, 46)
    fields = receptive_fields(trace(classifier, images), head=3)
    held = fields.masks.any(0)
    assert (fields.masks.sum(0) <= 1).all()
    assert fields.masks.flatten(1).any(1).all()
    assert held.sum() == 36 * 44
    noise = torch.where(held, images, torch.randn(1, 3, 39, 46))
    predict = class_probabilities(classifier)
    assert torch.equal(predict(images), predict(noise))


def test_probabilities_of_a_classifier(classifier):
    images = torch.randn(2, 3, 32, 32)
    found = class_probabilities(classifier)(images)
    samples = classifier.predict(images)
    torch.testing.assert_close(found, torch.stack([s.pred_score for s in samples]))
    assert not found.requires_grad


def test_probabilities_of_a_segmentor_are_means_over_the_image():
    class Segmentor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images, mode):
            return self.scale * images[:, :2].log()

    images = torch.tensor([[[0.5, 0.25]], [[0.5, 0.75]], [[1, 1]]])[None]
    found = class_probabilities(Segmentor())(images)
    torch.testing.assert_close(found, torch.tensor([[0.375, 0.625]]))


def test_a_model_without_class_probabilities_is_named():
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images, mode):
            return [images]

    with pytest.raises(ValueError, match="Detector gives no class probabilities"):
        class_probabilities(Detector())(torch.ones(1, 3, 4, 4))


def test_grad_cam_is_the_formula_and_leaves_the_model_alone(classifier):
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    features = classifier.backbone(images)[-1].detach()
    places = features.shape[2] * features.shape[3]
    found = []
    for label in range(3):
        heat = grad_cam(classifier, images, label)
        # Behind a global mean and one linear layer, a channel's weight is the layer's.
        weights = classifier.head.fc.weight[label].detach()
        expected = torch.einsum("bchw,c->bhw", features, weights).relu() / places
        expected = nn.functional.interpolate(
            expected[:, None], (32, 48), mode="bilinear"
        )
        torch.testing.assert_close(heat, expected[:, 0])
        found.append(heat.max())
    assert max(found) > 0
    assert all(p.grad is None for p in classifier.parameters())
    assert not classifier.backbone._forward_hooks


def test_a_given_ranking_is_measured(classifier):
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    masks = receptive_fields(trace(classifier, images), stage=0).masks
    predict = class_probabilities(classifier)
    order = torch.arange(len(masks)).flip(0)
    found = faithfulness(predict, images[0], masks, 1, ranking=order)
    found_curves = curves(predict, images[0], masks, order, 1)
    areas = [found.insertion, found.deletion]
    assert areas == [pytest.approx(curve.area) for curve in found_curves]


@pytest.mark.parametrize("stage", [0, 1, -1])
def test_points_are_blanked_inside_the_network(classifier, stage):
    """Against the slow way: the whole network for every cluster, with a hook."""
    images = torch.randn(1, 3, 39, 48, generator=torch.Generator().manual_seed(2))
    inside = stage_input(classifier, images[0], stage, blank=0.5)
    maps = trace(classifier, images)
    fields = receptive_fields(maps, stage=stage, grid="map")
    assert fields.masks.shape[1:] == maps.sizes[stage] == inside.features.shape[1:]
    assert torch.equal(fields.clusters, receptive_fields(maps, stage=stage).clusters)
    found = importance(
        inside.predict, inside.features, fields.masks, 1, inside.blank, batch_size=3
    )

    def whole(kept):
        def exchange(module, args):
            x, blank = args[0]
            return torch.where(kept.unsqueeze(-1), x, blank)[None], args[1]

        first = classifier.backbone.stages[stage][0]
        handle = first.register_forward_pre_hook(exchange)
        pair = torch.cat([images, torch.full_like(images, 0.5)])
        with torch.no_grad():
            logits = classifier(pair, mode="tensor")
        handle.remove()
        return logits.softmax(1)[0, 1].item()

    assert len(fields.masks) > 1
    for i, mask in enumerate(fields.masks):
        assert found.blanked[i].item() == pytest.approx(whole(~mask), abs=1e-5)
        assert found.kept[i].item() == pytest.approx(whole(mask), abs=1e-5)
    # Nothing blanked is the image; everything blanked is the blank image.
    predict = class_probabilities(classifier)
    torch.testing.assert_close(inside.predict(inside.features[None]), predict(images))
    torch.testing.assert_close(
        inside.predict(inside.blank[None]), predict(torch.full_like(images, 0.5))
    )
    assert found.full == pytest.approx(predict(images)[0, 1].item(), abs=1e-6)
    assert not classifier.backbone.stages[stage][0]._forward_pre_hooks


def test_points_of_a_stage_that_the_head_sees_past_cannot_be_blanked(classifier):
    image = torch.randn(3, 32, 32)
    with pytest.raises(ValueError, match="cannot blank points of CLUENet: only"):
        stage_input(classifier.backbone, image)
    classifier.backbone.out_indices = (0, 3)
    classifier.backbone.norm0 = nn.LayerNorm(8)
    with pytest.raises(ValueError, match="of stage 4: the head sees stages in front"):
        stage_input(classifier, image)
    with pytest.raises(IndexError):
        stage_input(classifier, image, stage=4)
    assert stage_input(classifier, image, stage=0).features.shape == (8, 8, 8)
