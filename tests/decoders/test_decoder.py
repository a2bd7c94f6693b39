"""The universal decoder on maps: shapes, padding, symmetry, gradients."""

import pytest
import torch

pytest.importorskip("mmdet")

from cluenet_mm.decoders import ClusterDecoder
from cluenet_mm.decoders.decoder import padding_of
from cluenet_mm.ops import implementation

SIZES = ((16, 24), (8, 12), (4, 6))


def build(**options):
    torch.manual_seed(0)
    settings = {
        "in_channels": 12,
        "num_classes": 5,
        "num_maps": 3,
        "embed_dims": 16,
        "sample_grid": (2, 3),
        "num_layers": 3,
        "num_heads": 2,
        "hidden_dims": 24,
        **options,
    }
    model = ClusterDecoder(**settings)
    model.init_weights()
    return model.eval()


def pyramid(batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 12, *size, generator=generator) for size in SIZES]


@pytest.mark.parametrize("num_learned", [0, 4])
def test_every_layer_predicts(num_learned):
    found = build(num_learned=num_learned)(pyramid())
    assert len(found) == 4
    for logits, boxes, masks in found:
        assert logits.shape == (2, 6 + num_learned, 6)
        assert boxes.shape == (2, 6 + num_learned, 4)
        assert masks.shape == (2, 6 + num_learned, *SIZES[0])
        assert ((boxes > 0) & (boxes < 1)).all()


def test_only_the_heads_that_are_asked_for():
    logits, boxes, masks = build(with_mask=False)(pyramid())[-1]
    assert masks is None
    assert boxes.shape == (2, 6, 4)
    learned = build(sample_grid=None, num_learned=7, with_box=False)
    logits, boxes, masks = learned(pyramid())[-1]
    assert boxes is None
    assert logits.shape == (2, 7, 6)


def test_boxes_start_at_the_cells_of_the_grid():
    boxes = build()(pyramid())[0].boxes
    expected = [
        [(x + 0.5) / 3, (y + 0.5) / 2, 1 / 3, 1 / 2] for y in range(2) for x in range(3)
    ]
    torch.testing.assert_close(boxes, torch.tensor([expected, expected]))


def test_padding_has_no_mass():
    # The second image is 3/4 as high and half as wide as the batch.
    model = build(num_learned=2)
    sizes = [(1.0, 1.0), (0.75, 0.5)]
    maps = pyramid()
    other = [x.clone() for x in maps]
    for x, (height, width) in zip(other, SIZES, strict=True):
        x[1, :, height * 3 // 4 :] = 1e3
        x[1, :, :, width // 2 :] = -1e3
    for one, two in zip(model(maps, sizes), model(other, sizes), strict=True):
        torch.testing.assert_close(one.logits, two.logits)
        torch.testing.assert_close(one.boxes, two.boxes)


def test_a_padded_image_is_decoded_as_alone():
    model = build(num_learned=2, with_mask=False)
    maps = pyramid()
    alone = [
        x[1:, :, : height * 3 // 4, : width // 2]
        for x, (height, width) in zip(maps, SIZES, strict=True)
    ]
    together = model(maps, [(1.0, 1.0), (0.75, 0.5)])
    for one, two in zip(together, model(alone), strict=True):
        torch.testing.assert_close(one.logits[1:], two.logits)
        torch.testing.assert_close(one.boxes[1:], two.boxes)


def test_rounding_makes_no_row_of_padding_an_image():
    # 200 of 352 rows at stride 4: 200 / 352 * 88 is a little above 50.
    padding = padding_of(torch.zeros(1, 1, 88, 88), [(200 / 352, 136 / 352)])
    assert (~padding[0, :, 0]).sum() == 50
    assert (~padding[0, 0]).sum() == 34


def test_an_image_of_one_pixel_is_decoded():
    for prediction in build()(pyramid(), [(1.0, 1.0), (1e-3, 1e-3)]):
        assert all(x.isfinite().all() for x in prediction)


def test_permuting_the_centers_permutes_the_predictions():
    model = build(sample_grid=None, num_learned=5, with_box=False)
    before = model(pyramid())
    order = torch.tensor([3, 1, 4, 0, 2])
    with torch.no_grad():
        for parameter in (model.learned, model.learned_position):
            parameter.copy_(parameter[order].clone())
    for one, two in zip(before, model(pyramid()), strict=True):
        torch.testing.assert_close(one.logits[:, order], two.logits)
        torch.testing.assert_close(one.masks[:, order], two.masks)


@pytest.mark.parametrize(
    "options",
    [
        {"num_learned": 4},
        {"with_mask": False},
        {"sample_grid": None, "num_learned": 4, "with_box": False},
    ],
    ids=str,
)
def test_every_parameter_is_used(options):
    model = build(**options).train()
    found = model(pyramid())
    sum(x.square().sum() for p in found for x in p if x is not None).backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert unused == []


@pytest.mark.parametrize(
    "options",
    [{"num_learned": 4}, {"sample_grid": None, "num_learned": 4, "with_box": False}],
    ids=str,
)
def test_a_compiled_decoder_trains_as_the_eager_one(options):
    model = build(**options, num_iterations=2).double()
    maps = [x.double() for x in pyramid()]
    results = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        found = run(maps)
        sum(x.square().sum() for p in found for x in p if x is not None).backward()
        results.append({n: p.grad for n, p in model.named_parameters()})
    torch.testing.assert_close(results[0], results[1])
    for layer in range(3):
        assert results[1][f"layers.{layer}.clustering.query.weight"].abs().max() > 0


def test_implementations_agree():
    maps = [x.double() for x in pyramid()]
    tiles = build().double()(maps)
    with implementation("naive"):
        naive = build().double()(maps)
    for one, two in zip(naive, tiles, strict=True):
        torch.testing.assert_close(one.logits, two.logits)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sample_grid": None, "with_box": False}, "needs centers"),
        ({"sample_grid": None, "num_learned": 3}, "needs sampled centers"),
        ({"embed_dims": 18}, "divisible by 4"),
        ({"num_maps": 1}, "at least 2"),
        ({"num_heads": 3}, "3 heads do not divide"),
        ({"num_iterations": 0}, "num_iterations must be positive"),
        ({"num_layers": 1}, "1 layers leave maps unused"),
    ],
)
def test_impossible_options_are_errors(options, reason):
    with pytest.raises(ValueError, match=reason):
        build(**options)


def test_a_wrong_number_of_maps_is_an_error():
    with pytest.raises(ValueError, match="built for 3 maps and got 2"):
        build()(pyramid()[:2])


def test_the_scale_of_the_features_does_not_matter():
    norms = []
    for scale in (1.0, 100.0):
        model = build(with_mask=False).train()
        logits = model([scale * x for x in pyramid()])[-1].logits
        logits.square().sum().backward()
        layers = [p.grad for p in model.layers.parameters()]
        norms.append(torch.stack([grad.norm() for grad in layers]).norm())
    assert norms[1] < 3 * norms[0]
