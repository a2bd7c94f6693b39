import csv

import numpy as np
import pytest
from PIL import Image

from cluenet_mm.datasets import MiniImageNet
from cluenet_mm.datasets.mini_imagenet import split_class


def write_set(root, classes, images_per_class=10):
    (root / "images").mkdir(parents=True)
    for file, ids in classes.items():
        with (root / file).open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["filename", "label"])
            for wordnet_id in ids:
                for i in range(images_per_class):
                    name = f"{wordnet_id}{i:08d}.jpg"
                    writer.writerow([name, wordnet_id])
                    Image.new("RGB", (8, 6)).save(root / "images" / name)
    return root


@pytest.fixture
def root(tmp_path):
    return write_set(
        tmp_path / "mini",
        {"train.csv": ["n03", "n01"], "val.csv": ["n04"], "test.csv": ["n02"]},
    )


def test_the_rule_of_the_release():
    names = [f"{i}.jpg" for i in range(600)]
    order = np.random.RandomState(1).choice(600, 600, replace=False)
    assert split_class(names, "train") == [names[i] for i in order[:480]]
    assert split_class(names, "val") == [names[i] for i in order[480:]]


def test_classes_of_all_files_are_merged_and_sorted(root):
    train, val = MiniImageNet(root, "train"), MiniImageNet(root, "val")
    assert train.metainfo["classes"] == ("n01", "n02", "n03", "n04")
    assert (len(train), len(val)) == (4 * 8, 4 * 2)
    paths = {
        s["img_path"] for d in (train, val) for s in map(d.get_data_info, range(len(d)))
    }
    assert len(paths) == 40
    for data_set in (train, val):
        for i in range(len(data_set)):
            info = data_set.get_data_info(i)
            wordnet_id = train.metainfo["classes"][info["gt_label"]]
            assert f"/{wordnet_id}0" in info["img_path"]


@pytest.mark.parametrize("file", ["train.csv", "val.csv", "test.csv"])
def test_a_missing_csv_is_named_with_the_layout(root, file):
    (root / file).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"cannot read .*{file}: not found(.|\n)*images/"
    ):
        MiniImageNet(root, "train")


def test_missing_images_are_counted_and_named(root):
    victim = MiniImageNet(root, "val").get_data_info(3)["img_path"]
    (root / "images" / victim.rsplit("/", 1)[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 8 images are missing.*jpg"):
        MiniImageNet(root, "val")


def test_broken_csv_files_are_named(root):
    (root / "val.csv").write_text("name,class\na,b\n")
    with pytest.raises(ValueError, match=r"val\.csv: it lacks the columns"):
        MiniImageNet(root, "train")
    (root / "val.csv").write_text("filename,label\na.jpg,\n")
    with pytest.raises(ValueError, match=r"val\.csv: line 2 has an empty field"):
        MiniImageNet(root, "train")


def test_an_unknown_split_is_named(root):
    with pytest.raises(ValueError, match="'test'"):
        MiniImageNet(root, "test")
