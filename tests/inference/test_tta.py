"""Views of test-time augmentation that no config lists."""

import pytest
from mmengine.config import Config

from cluenet_mm.inference.tta import use_tta, with_flips

LOAD, PACK = {"type": "LoadImageFromFile"}, {"type": "PackInputs"}
RESIZE, LABELS = {"type": "mmseg.Resize"}, {"type": "LoadAnnotations"}


def kinds(steps):
    return [[step["type"].split(".")[-1] for step in views] for views in steps]


def test_the_flip_comes_before_the_labels():
    load, augment = with_flips([LOAD, RESIZE, LABELS, PACK])
    assert load == LOAD
    assert kinds(augment.transforms) == [
        ["Resize"],
        ["RandomFlip", "RandomFlip"],
        ["LoadAnnotations"],
        ["PackInputs"],
    ]
    assert [flip.prob for flip in augment.transforms[1]] == [0.0, 1.0]


def test_data_in_memory_and_keys_of_the_flip():
    pack = {"type": "PackInputs", "meta_keys": ("img_path", "flip")}
    (augment,) = with_flips([pack])
    assert augment.transforms[-1][0].meta_keys == ("img_path", "flip", "flip_direction")
    assert pack["meta_keys"] == ("img_path", "flip")


def config(**more):
    part = {"type": "CustomDataset", "pipeline": [LOAD, PACK]}
    return Config(
        {
            "model": {"type": "ImageClassifier"},
            "test_dataloader": {"dataset": {"type": "Wrap", "datasets": [part, part]}},
            "test_evaluator": [{"type": "Accuracy"}],
            **more,
        }
    )


def test_every_data_set_and_the_model_are_wrapped():
    cfg = config(default_scope="mmpretrain")
    use_tta(cfg)
    assert cfg.model == {"type": "AverageClsScoreTTA", "module": config().model}
    for part in cfg.test_dataloader.dataset.datasets:
        assert part.pipeline[1].type == "TestTimeAug"
    cfg = config(tta_model={"type": "Mine"}, tta_pipeline=[PACK])
    use_tta(cfg)
    assert cfg.model.type == "Mine"
    assert cfg.test_dataloader.dataset.datasets[1].pipeline == [PACK]


def test_what_has_no_model_of_views_is_refused():
    with pytest.raises(
        ValueError, match="cannot use --tta: the config has no tta_model"
    ):
        use_tta(config())
    cfg = config(default_scope="mmdet", test_evaluator={"type": "PanopticQuality"})
    with pytest.raises(ValueError, match="views of a panoptic segmentation cannot"):
        use_tta(cfg)
