from dataclasses import astuple

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from PIL import Image
from skimage import data

from cluenet_mm.config import read_config
from cluenet_mm.inference import build_model
from cluenet_mm.interpret import (
    class_probabilities,
    importance,
    receptive_fields,
    to_input,
    trace,
)
from cluenet_mm.interpret.measure import measure_pointing
from cluenet_mm.interpret.pointing import (
    grids_of_four,
    pointing_game,
    region_heat,
    tile,
)

CELLS = torch.stack(
    [tile(row) for row in torch.eye(4).view(4, 4, 1, 1, 1).expand(-1, -1, 3, 4, 6)]
)[:, 0]


def test_an_oracle_gets_one_and_the_same_everywhere_a_quarter():
    assert CELLS.shape == (4, 8, 12)
    assert astuple(pointing_game(CELLS)) == (1, 1, 0)
    assert astuple(pointing_game(torch.ones(4, 8, 12), 7)) == (0.25, 0.25, 7)
    assert astuple(pointing_game(-CELLS)) == (0.25, 0.25, 0)  # nowhere
    wrong = CELLS[[1, 2, 3, 0]]
    assert astuple(pointing_game(wrong)) == (0, 0, 0)


def test_shares_that_the_hand_counts():
    heat = CELLS.clone()
    heat[0] = 0
    heat[0, 0, 0], heat[0, 7, 11], heat[0, 7, 0] = 1, 3, -5
    found = pointing_game(heat)
    assert found.share == pytest.approx((1 / 4 + 3) / 4)
    assert found.hit == 3 / 4


def test_heat_of_a_pixel_is_the_score_of_its_region():
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    masks[0, 0], masks[1, 1, 1] = True, True
    heat = region_heat(torch.tensor([[2.0, 5]]), masks)
    assert heat.tolist() == [[[2, 2], [0, 5]]]


def test_grids_take_the_surest_of_different_classes():
    def entry(label, sure, guess=None):
        probabilities = torch.zeros(6)
        probabilities[label] = sure
        if guess is not None:
            probabilities[guess] = 1
        return torch.full((3, 2, 2), float(sure)), label, probabilities

    images = [entry(i, 0.5 + i / 100) for i in range(5)] + [entry(0, 0.9)]
    images.append(entry(5, 0.8, guess=1))
    (grid,) = grids_of_four(images, 3)
    assert list(grid) == [0, 4, 3, 2]
    assert grid[0][0, 0, 0].item() == pytest.approx(0.9)
    assert grids_of_four(images[:3], 1) == []


def test_the_game_of_the_published_network():
    name = "cluenet_mm://cluenet_micro_cifar100"
    model = build_model(read_config("cluenet/cls_cifar100"), name)
    predict = class_probabilities(model)
    samples, labels = [], set()
    for name in ("chelsea", "coffee", "rocket", "astronaut", "page", "coins"):
        photo = Image.fromarray(getattr(data, name)()).convert("RGB")
        image = np.array(photo.resize((16, 16)))  # whatever it is called is right
        label = int(predict(to_input(model, image)).argmax())
        labels.add(label)
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        sample = DataSample().set_gt_label(label)
        samples.append({"inputs": pixels, "data_samples": sample})
    assert len(labels) >= 4
    table = measure_pointing(model, samples, 1, [model])
    rows = {(row["stage"], row["segments"]): row for row in table["rows"]}
    assert table["images"] == 1
    assert rows[4, "Grad-CAM"]["regions"] == 0
    for row in rows.values():
        assert 0 <= row["share"] <= 1
    for stage in (1, 2, 3, 4):
        own, same = rows[stage, "clusters"], rows[stage, "untrained 1"]
        assert (own["share"], own["hit"]) == (same["share"], same["hit"])
    # By hand, of the only grid.
    candidates = [
        (to_input(model, s["inputs"].permute(1, 2, 0).numpy())[0]) for s in samples
    ]
    (grid,) = grids_of_four(
        [
            (x, int(s["data_samples"].gt_label), predict(x[None])[0])
            for x, s in zip(candidates, samples, strict=True)
        ],
        1,
    )
    image = tile(grid.values())
    masks = receptive_fields(trace(model, image[None]), stage=2).masks
    scores = torch.stack(
        [importance(predict, image, masks, label).score for label in grid]
    )
    expected = pointing_game(region_heat(scores, masks))
    assert rows[3, "clusters"]["share"] == pytest.approx(expected.share, abs=1e-5)


def test_a_network_that_is_never_right_cannot_play(classifier):
    with pytest.raises(ValueError, match="no four images of different classes"):
        measure_pointing(classifier, [], 2)
