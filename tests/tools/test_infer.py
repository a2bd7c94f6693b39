"""tools/infer.py: the predictions of tools/test.py, for any image file."""

import json
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import cv2
import dense_data
import numpy as np
import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

import cluenet_mm
from cluenet_mm import config_path
from cluenet_mm.inference import Predictor

pytest.importorskip("mmpretrain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images, configs and weights of the three tasks."""
    folder = dense_data.write(tmp_path_factory.mktemp("dense"))
    configs = [dense_data.classifier_config(folder)]
    for library, config in (
        ("mmdet", dense_data.detector_config),
        ("mmseg", dense_data.segmentor_config),
    ):
        pytest.importorskip(library)
        configs.append(config(folder))
    for config in configs:
        dense_data.save_weights(config, config.with_suffix(".pth"))
    return folder


def task(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.py", folder / f"{name}.pth"


def results(out_dir: Path) -> dict[str, dict]:
    """The JSON of every image by its name."""
    preds = out_dir / "preds"
    return {
        str(path.relative_to(preds).with_suffix("")): json.loads(path.read_text())
        for path in preds.rglob("*.json")
    }


def test_a_classifier_predicts_as_in_a_test(folder, tmp_path):
    model = task(folder, "classifier")
    out = tmp_path / "tested.pkl"
    work = ("--work-dir", tmp_path / "work")
    assert dense_data.run_tool("test.py", *model, "--out", out, *work)[0] == 0
    status, _ = dense_data.run_tool(
        *("infer.py", folder / "classes", *model, "--out-dir", tmp_path / "new")
    )
    assert status == 0
    found = results(tmp_path / "new")
    assert sorted(found) == ["a_blue/0", "a_blue/1", "b_orange/0", "b_orange/1"]
    for sample in pickle.loads(out.read_bytes()):
        image = Path(sample["img_path"])
        record = found[f"{image.parent.name}/{image.stem}"]
        np.testing.assert_allclose(record["scores"], sample["pred_score"], atol=1e-6)
        assert record["label"] == sample["pred_label"].item()
        assert record["class"] == ("blue", "orange")[record["label"]]
        assert record["score"] == max(record["scores"])
    # Red and blue stay where they were, in the picture and in the network.
    picture = cv2.imread(str(tmp_path / "new" / "vis" / "a_blue" / "0.png"))
    assert picture.shape == (224, 268, 3)
    assert picture[-20:].reshape(-1, 3).mean(0).argmax() == 0
    scores = [found[name]["scores"][0] for name in ("a_blue/0", "b_orange/0")]
    assert abs(scores[0] - scores[1]) > 1e-4


def test_a_detector_predicts_as_in_a_test(folder, tmp_path):
    model = task(folder, "detector")
    # Clusters see the padding of a batch.
    options = ("model.test_cfg.rcnn.score_thr=0.0", "test_dataloader.batch_size=1")
    command = (*model, "--cfg-options", *options)
    out = tmp_path / "tested.json"
    work = ("--work-dir", tmp_path / "work")
    assert dense_data.run_tool("test.py", *command, "--out", out, *work)[0] == 0
    names = {name: number for number, (name, *_) in enumerate(dense_data.IMAGES, 1)}
    tested = json.loads((tmp_path / "tested.segm.json").read_text())
    assert tested
    options = ("--out-dir", tmp_path / "new", "--score-thr", 1.0)
    images = folder / "images"
    status, _ = dense_data.run_tool("infer.py", images, *command, *options)
    assert status == 0
    found = results(tmp_path / "new")
    assert len(found) == len(names)
    for name, number in names.items():
        record = found[Path(name).stem]
        expected = [entry for entry in tested if entry["image_id"] == number]
        assert len(record["instances"]) == len(expected)
        height, width = record["size"]
        for new, old in zip(record["instances"], expected, strict=True):
            assert new["score"] == pytest.approx(old["score"], abs=1e-5)
            assert new["label"] + 7 == old["category_id"]
            assert new["class"] == dense_data.CLASSES[new["label"]]
            x1, y1, x2, y2 = new["bbox"]
            box = [x1, y1, x2 - x1, y2 - y1]
            assert box == pytest.approx(old["bbox"], abs=1e-2)
            assert new["segmentation"]["size"] == [height, width]
        # Nothing is drawn below the threshold: the picture is the image. Some versions
        # of matplotlib smooth and shift it by a pixel, so look inside the objects.
        picture = cv2.imread(str(tmp_path / "new" / "vis" / f"{Path(name).stem}.png"))
        image = cv2.imread(str(images / name))
        assert picture.shape == image.shape
        for _, (x, y, width, height) in dense_data.IMAGES[number - 1][3]:
            if width > 4:
                middle = slice(y + height // 2 - 1, y + height // 2 + 1), x + width // 2
                change = picture[middle].astype(int) - image[middle]
                assert abs(change).max() <= 8


def test_a_segmentor_predicts_as_in_a_test(folder, tmp_path):
    model = task(folder, "segmentor")
    out = tmp_path / "tested"
    work = ("--work-dir", tmp_path / "work")
    assert dense_data.run_tool("test.py", *model, "--out", out, *work)[0] == 0
    images = folder / "images"
    new = ("--out-dir", tmp_path / "new")
    assert dense_data.run_tool("infer.py", images, *model, *new)[0] == 0
    found = results(tmp_path / "new")
    for name, height, width, _ in dense_data.IMAGES:
        expected = cv2.imread(str(out / f"{Path(name).stem}.png"), cv2.IMREAD_UNCHANGED)
        record = found[Path(name).stem]
        path = tmp_path / "new" / "preds" / record["label_map"]
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (height, width)
        np.testing.assert_array_equal(labels, expected)
        assert {c["label"]: c["pixels"] for c in record["classes"]} == {
            label: int((labels == label).sum()) for label in np.unique(labels).tolist()
        }
    names = [c["class"] for record in found.values() for c in record["classes"]]
    assert {"ellipse", "rectangle"} & set(names)


def test_a_data_set_in_memory_keeps_its_order_of_colors(tmp_path):
    """The digits are RGB arrays; a file is turned into the same."""
    path = config_path("cluenet/cls_digits")
    weights = dense_data.save_weights(path, tmp_path / "weights.pth")
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 0] = 250  # red
    pixels[:, :16, 2] = 180
    cv2.imwrite(str(tmp_path / "image.png"), pixels[..., ::-1])
    predictor = Predictor(Config.fromfile(path), str(weights))
    sample, image = predictor(tmp_path / "image.png")
    np.testing.assert_array_equal(image, pixels)
    model = predictor._inferencer.model
    inputs = model.data_preprocessor(
        {"inputs": [torch.from_numpy(pixels).permute(2, 0, 1)]}
    )["inputs"]
    with torch.no_grad():
        expected = model(inputs, mode="tensor").softmax(1)[0]
    torch.testing.assert_close(sample.pred_score, expected, atol=1e-5, rtol=1e-4)


def test_only_what_is_missing_is_predicted(folder, tmp_path):
    config, weights = task(folder, "classifier")
    images = folder / "classes"
    options = ("--out-dir", tmp_path)

    def infer(checkpoint: Path, *more: object) -> tuple[object, str]:
        return dense_data.run_tool(
            *("infer.py", images, config, checkpoint, *options, *more)
        )

    assert "4 new results" in infer(weights)[1]
    status, printed = infer(weights)
    assert status == 0
    assert "4 of 4 results exist already" in printed
    assert "0 new results" in printed
    (tmp_path / "preds" / "a_blue" / "1.json").write_text('{"image": "a_blue')
    assert "1 new result in" in infer(weights)[1]
    # Another image of the same name, and one that was replaced.
    other = tmp_path / "other"
    shutil.copytree(images / "a_blue", other / "a_blue")
    assert (
        "2 new results"
        in dense_data.run_tool(*("infer.py", other, config, weights, *options))[1]
    )
    assert "2 new results" in infer(weights)[1]
    os.utime(images / "b_orange" / "0.png")
    assert "1 new result in" in infer(weights)[1]
    assert "4 new results" in infer(weights, "--overwrite")[1]
    before = results(tmp_path)
    other = dense_data.save_weights(config, tmp_path / "other.pth", seed=1)
    assert "4 new results" in infer(other)[1]
    after = results(tmp_path)
    assert all(before[name]["scores"] != after[name]["scores"] for name in before)


def test_names_are_unique_and_results_are_no_input(folder, tmp_path):
    source = folder / "images" / "scene.png"
    for name in ("same.png", "same.bmp", "sub/deep.png", ".hidden/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source.read_bytes())
    command = ("infer.py", tmp_path, *task(folder, "segmentor"))
    out_dir = tmp_path
    for _ in range(2):  # the second time with the pictures of the first in the folder
        status, _ = dense_data.run_tool(*command, "--out-dir", out_dir)
        assert status == 0
    assert sorted(results(out_dir)) == ["same.bmp", "same.png", "sub/deep"]
    pictures = sorted(path.name for path in (out_dir / "vis").rglob("*.png"))
    assert pictures == ["deep.png", "same.bmp.png", "same.png.png"]


def test_images_that_fail_are_named_and_do_not_stop_the_others(folder, tmp_path):
    source = folder / "images" / "scene.png"
    for name in ("a.png", "z.png"):
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image")
    dot = tmp_path / "dot.png"  # mmseg's visualizer cannot draw a single pixel
    cv2.imwrite(str(dot), np.zeros((1, 1, 3), np.uint8))
    model = task(folder, "segmentor")
    out_dir = tmp_path / "out"
    command = ("infer.py", tmp_path, *model, "--out-dir", out_dir)
    status, printed = dense_data.run_tool(*command)
    assert status == 1
    assert "2 new results" in printed
    assert "3 of 5 images failed" in printed
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert lines[0].startswith(f"error: {dot}: IndexError: ")
    assert ".py, line " in lines[0]
    assert lines[1:] == [
        f"error: cannot decode {tmp_path / name}: it is damaged or not an image"
        for name in ("empty.jpg", "text.png")
    ]
    assert sorted(results(out_dir)) == ["a", "z"]
    command = ("infer.py", tmp_path / "text.png", *model, "--out-dir", out_dir)
    assert dense_data.run_tool(*command)[0] == 1


@pytest.mark.parametrize("name", ["classifier", "detector", "segmentor"])
def test_types_may_be_classes(folder, name):
    """As in MMEngine's configs in pure Python."""
    config, weights = task(folder, name)
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    named = Predictor(cfg, str(weights))
    dataset = cfg.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(None) as registry:
        dataset.type = registry.get(dataset.type)
    with TRANSFORMS.switch_scope_and_registry(None) as registry:
        for step in dataset.pipeline:
            step.type = registry.get(step.type)
    predictor = Predictor(cfg, str(weights))
    image = folder / "images" / "scene.png"
    assert predictor.record(predictor(image)[0]) == named.record(named(image)[0])


@pytest.mark.parametrize(
    ("images", "config", "checkpoint", "message"),
    [
        ("nowhere", "classifier.py", "classifier.pth", "nowhere does not exist"),
        ("hollow", "classifier.py", "classifier.pth", "hollow contains none"),
        ("classes", "nothing.py", "classifier.pth", "cannot read config nothing.py"),
        ("classes", "classifier.py", "gone.pth", "gone.pth does not exist"),
        ("classes", "classifier.py", "classifier.py", "is no PyTorch checkpoint"),
        ("classes", "classifier.py", "detector.pth", "head.fc.weight"),
        ("classes", "bare.py", "classifier.pth", "default_scope is None"),
    ],
)
def test_bad_input_is_one_clear_line(
    folder, monkeypatch, images, config, checkpoint, message
):
    (folder / "hollow").mkdir(exist_ok=True)
    (folder / "bare.py").write_text("model = dict(type='ImageClassifier')\n")
    monkeypatch.chdir(folder)
    words = ("infer.py", images, config, checkpoint, "--out-dir", "bad")
    line, printed = dense_data.run_tool(*words)
    assert message in line
    assert "\n" not in line
    assert "Traceback" not in printed
    assert not (folder / "bad").exists()


def test_an_interrupted_run_goes_on(folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    source = folder / "images" / "scene.png"
    for number in range(300):
        (images / f"{number}.png").write_bytes(source.read_bytes())
    out_dir = tmp_path / "out"
    command = ("infer.py", images, *task(folder, "classifier"), "--out-dir", out_dir)
    process = toy.start(tmp_path, *command)
    deadline = time.monotonic() + 100
    while len(list(out_dir.rglob("*.json"))) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Interrupted; run the same command again to continue" in output
    assert "Traceback" not in output
    done = len(results(out_dir))
    assert 3 <= done < 300
    assert not list(out_dir.rglob(".*"))  # nothing half-written
    for path in images.iterdir():
        if (
            int(path.stem) >= 8
            and not (out_dir / "preds" / f"{path.stem}.json").exists()
        ):
            path.unlink()
    _, printed = dense_data.run_tool(*command)
    assert f"{done} of " in printed


def test_a_photograph_alone_is_classified_by_the_published_network(
    tmp_path, monkeypatch
):
    image = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.GaussianBlur(image, (0, 0), 9))
    monkeypatch.chdir(tmp_path)
    status, printed = dense_data.run_tool("infer.py", "photo.png")
    network = cluenet_mm.load_model("cluenet_micro_cifar100")
    ((name, score),) = network.predict(network.transform("photo.png"), topk=1)[0]
    assert status == 0
    assert f"photo.png: {name} {score:.2f}\n1 new result in found" in printed
    record = json.loads(Path("found/preds/photo.json").read_text())
    assert (record["class"], len(record["scores"])) == (name, 100)
    for option, fault in (("arch=giant", "giant"), ("bogus=1", "bogus")):
        words = ("infer.py", "photo.png", "--cfg-options", f"model.backbone.{option}")
        line, printed = dense_data.run_tool(*words)
        assert line.startswith("error: cannot build a part of the config: ")
        assert fault in line
        assert "Traceback" not in printed
    _, printed = dense_data.run_tool("infer.py", "photo.png", "cluenet/cls_digits")
    assert "CONFIG needs its CHECKPOINT" in printed


def test_a_large_image_in_a_pipeline_for_small_ones_is_said_once(tmp_path, capsys):
    path = config_path("cluenet/cls_digits")
    weights = dense_data.save_weights(path, tmp_path / "weights.pth")
    predictor = Predictor(Config.fromfile(path), str(weights))
    for side, times in ((128, 0), (150, 1), (150, 0)):
        cv2.imwrite(str(tmp_path / "image.png"), np.zeros((side, side, 3), np.uint8))
        predictor(tmp_path / "image.png")
        assert capsys.readouterr().err.count("does not resize") == times
