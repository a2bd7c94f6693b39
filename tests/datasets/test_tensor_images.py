"""Images in memory: their configs, the dataset, and augmentation on the device."""

from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from cluenet_mm import config_path
from cluenet_mm.datasets import TensorImages

RECIPES = [
    *(f"{n}/cls_cifar100" for n in ("cluenet", "coc", "fec", "clusterformer")),
    "baselines/resnet18_cifar100",
]
COUNT = 54


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Noise of three classes."""
    path = tmp_path_factory.mktemp("data") / "train.npz"
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 32, 32), np.uint8)
    np.savez(path, images=images, labels=np.arange(COUNT) % 3, classes=["a", "b", "c"])
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_the_config_is_the_recipe_on_other_data(name):
    recipe = Config.fromfile(config_path(name))
    cfg = Config.fromfile(config_path(f"{name}_memory"))
    loaders = {"train_dataloader", "val_dataloader", "test_dataloader"}
    for key in recipe.keys() - loaders - {"data_preprocessor"}:
        assert cfg[key] == recipe[key], key
    for key in loaders:
        assert cfg[key].batch_size == recipe[key].batch_size == 256
        assert cfg[key].sampler.shuffle == recipe[key].sampler.shuffle
        split = recipe[key].dataset.split
        path = f"data/cifar100/{split}.npz"
        assert cfg[key].dataset == {"type": "cluenet_mm.TensorImages", "path": path}
    crop, flip, _ = recipe.train_dataloader.dataset.pipeline
    ours = cfg.data_preprocessor
    assert (crop.crop_size, crop.padding) == (32, ours.crop_padding)
    assert (flip.prob, flip.direction) == (ours.flip_prob, "horizontal")
    for key in ("mean", "std", "num_classes"):
        assert ours[key] == recipe.data_preprocessor[key], key


def test_images_come_out_in_batches(path):
    dataset = TensorImages(str(path))
    assert len(dataset) == COUNT
    assert dataset.metainfo == {"classes": ("a", "b", "c")}
    images = np.load(path)["images"]
    batch = dataset.__getitems__([5, 0])
    assert (batch["inputs"].numpy() == images[[5, 0]]).all()
    assert batch["labels"].tolist() == [2, 0]
    assert (dataset[3]["inputs"].numpy() == images[3]).all()


def test_a_wrong_file_says_why(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.npz: no such file"):
        TensorImages(str(tmp_path / "gone.npz"))
    cut = tmp_path / "cut.npz"
    cut.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cannot read images .*cut\.npz"):
        TensorImages(str(cut))
    arrays = dict(np.load(path))
    for wrong in (
        {"images": arrays["images"] / 255},
        {"labels": arrays["labels"][1:]},
    ):
        np.savez(cut, **{**arrays, **wrong})
        with pytest.raises(ValueError, match=f"its {next(iter(wrong))} are"):
            TensorImages(str(cut))


def variants(image):
    """All that the recipe can make of an image (3 x 32 x 32), by their bytes."""
    padded = np.pad(image, [(0, 0), (4, 4), (4, 4)])
    crops = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    return {crop[..., ::step].tobytes() for crop in crops for step in (1, -1)}


def test_augmentation_is_that_of_the_recipe():
    cfg = Config.fromfile(config_path("cluenet/cls_cifar100_memory"))
    init_default_scope(cfg.default_scope)
    preprocessor = MODELS.build(cfg.data_preprocessor)
    image = np.random.default_rng(2).integers(0, 256, (3, 32, 32), np.uint8)
    recipe = Config.fromfile(config_path("cluenet/cls_cifar100"))
    pipeline = Compose(recipe.train_dataloader.dataset.pipeline)

    def by_pipeline(count):
        sample = {"img": image.transpose(1, 2, 0), "gt_label": 0}
        return [pipeline(dict(sample))["inputs"].numpy() for _ in range(count)]

    def in_a_batch(count):
        images = torch.from_numpy(image).expand(count, -1, -1, -1)
        return preprocessor.augment(images).numpy()

    torch.manual_seed(0)
    np.random.seed(0)
    expected = variants(image)
    assert len(expected) == 162
    for draw, each in ((by_pipeline, 10), (in_a_batch, 60)):
        counts = Counter(x.tobytes() for x in draw(162 * each))
        assert counts.keys() == expected
        # 161 degrees of freedom: a mean of 161 and a standard deviation of 18.
        assert sum((n - each) ** 2 / each for n in counts.values()) < 161 + 5 * 18


def test_the_preprocessor_gives_heads_what_they_expect(path):
    cfg = Config.fromfile(config_path("cluenet/cls_cifar100_memory"))
    init_default_scope(cfg.default_scope)
    ours = MODELS.build(cfg.data_preprocessor)
    recipe = Config.fromfile(config_path("cluenet/cls_cifar100"))
    theirs = {"type": "mmpretrain.ClsDataPreprocessor", **recipe.data_preprocessor}
    dataset = TensorImages(str(path))
    images, labels = dataset.images, dataset.labels
    batch = ours({"inputs": images, "labels": labels})
    expected = MODELS.build(theirs)({"inputs": list(images)})
    torch.testing.assert_close(batch["inputs"], expected["inputs"], rtol=0, atol=0)
    assert [s.gt_label.item() for s in batch["data_samples"]] == labels.tolist()

    torch.manual_seed(3)
    training = ours({"inputs": images, "labels": labels}, training=True)
    (sample,) = training["data_samples"]
    assert sample.gt_label.tolist() == labels.tolist()
    assert not torch.equal(training["inputs"], batch["inputs"])
    torch.manual_seed(3)
    again = ours({"inputs": images, "labels": labels}, training=True)
    assert torch.equal(again["inputs"], training["inputs"])
    assert "data_samples" not in {
        key for key, value in ours({"inputs": images}).items() if value is not None
    }
    with pytest.raises(ValueError, match="no batch augmentations"):
        MODELS.build({**cfg.data_preprocessor, "batch_augments": {"augments": "x"}})


def test_the_loader_covers_an_epoch_in_another_order_each_time(path):
    cfg = Config.fromfile(config_path("coc/cls_cifar100_memory"))
    init_default_scope(cfg.default_scope)
    cfg.train_dataloader.dataset.path = str(path)
    cfg.train_dataloader.batch_size = 16
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches = [batch["inputs"] for batch in loader]
        assert [len(batch) for batch in batches] == [16, 16, 16, 6]
        orders.append([image.numpy().tobytes() for image in torch.cat(batches)])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
