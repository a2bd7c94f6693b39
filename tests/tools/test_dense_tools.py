"""tools/test.py and the launchers with detectors and segmentors."""

import json
import pickle
import shutil
from pathlib import Path

import cv2
import dense_data
import numpy as np
import pytest
import toy
from processes import run_in_two

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

CONFIGS = {
    "detector": dense_data.detector_config,
    "segmentor": dense_data.segmentor_config,
}
STEMS = sorted(Path(name).stem for name, *_ in dense_data.IMAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = dense_data.write(tmp_path_factory.mktemp("dense"))
    for make in CONFIGS.values():
        config = make(folder)
        dense_data.save_weights(config, config.with_suffix(".pth"))
    return folder


def run_test(folder: Path, name: str, work: Path, *words: object) -> tuple[object, str]:
    return dense_data.run_tool(
        *("test.py", folder / f"{name}.py", folder / f"{name}.pth"),
        *("--work-dir", work, *words),
    )


def test_a_detector_writes_coco_results(folder, tmp_path):
    from pycocotools.coco import COCO

    out = tmp_path / "new" / "results.json"
    options = ("--cfg-options", "model.test_cfg.rcnn.score_thr=0.0")
    status, printed = run_test(folder, "detector", tmp_path, "--out", out, *options)
    assert status == 0
    assert "coco/segm_mAP: " in printed
    names = sorted(path.name for path in out.parent.iterdir())
    assert names == ["results.bbox.json", "results.segm.json"]
    results = json.loads((out.parent / "results.segm.json").read_text())
    assert {entry["image_id"] for entry in results} == {1, 2, 3, 4, 5}
    assert {entry["category_id"] for entry in results} <= {7, 8}
    truth = COCO(str(folder / "coco.json"))
    truth.dataset.setdefault("info", {})
    found = truth.loadRes(str(out.parent / "results.segm.json"))
    height, width = dense_data.IMAGES[0][1:3]
    mask = found.annToMask(found.loadAnns(found.getAnnIds(imgIds=1))[0])
    assert mask.shape == (height, width)


def test_a_segmentor_writes_label_maps(folder, tmp_path):
    out = tmp_path / "maps"
    status, printed = run_test(folder, "segmentor", tmp_path, "--out", out)
    assert status == 0
    assert "mIoU: " in printed
    assert sorted(path.name for path in out.iterdir()) == [f"{s}.png" for s in STEMS]
    for name, height, width, _ in dense_data.IMAGES:
        labels = cv2.imread(str(out / f"{Path(name).stem}.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (height, width)
        assert set(np.unique(labels)) <= {0, 1, 2}


def test_label_maps_are_numbered_as_the_annotations(folder, tmp_path):
    """With reduce_zero_label, as in ADE20K, the first class is 1 in the files."""
    zero = "test_dataloader.dataset.reduce_zero_label=True"
    run_test(folder, "segmentor", tmp_path, "--out", tmp_path / "plain")
    options = ("--out", tmp_path / "reduced", "--cfg-options", zero)
    assert run_test(folder, "segmentor", tmp_path, *options)[0] == 0
    for path in (tmp_path / "plain").iterdir():
        plain, reduced = (
            cv2.imread(str(p), cv2.IMREAD_UNCHANGED)
            for p in (path, tmp_path / "reduced" / path.name)
        )
        np.testing.assert_array_equal(reduced, plain + 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pickle_holds_the_predictions_of_any_task(folder, tmp_path, name):
    out = tmp_path / "predictions.pkl"
    assert run_test(folder, name, tmp_path, "--out", out)[0] == 0
    samples = pickle.loads(out.read_bytes())
    assert sorted(Path(sample["img_path"]).stem for sample in samples) == STEMS


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        (
            "segmentor",
            "results.json",
            "results.json needs CocoMetric or PanopticQuality in test_evaluator",
        ),
        ("detector", "maps", "maps needs IoUMetric in test_evaluator"),
    ],
)
def test_predictions_of_another_task_are_refused(folder, tmp_path, name, out, message):
    line, printed = run_test(folder, name, tmp_path, "--out", tmp_path / out)
    assert message in line
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_an_earlier_result_survives_a_failed_test(folder, tmp_path):
    out = tmp_path / "maps"
    out.mkdir()
    (out / "scene.png").write_text("of an earlier run")
    other = shutil.copy(folder / "detector.pth", tmp_path / "other.pth")
    line, _ = dense_data.run_tool(
        *("test.py", folder / "segmentor.py", other),
        *("--work-dir", tmp_path / "work", "--out", out),
    )
    assert "the weights do not fit the model" in line
    assert [path.name for path in out.iterdir()] == ["scene.png"]
    assert not (tmp_path / ".maps.partial").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_show_dir_holds_labels_beside_predictions(folder, tmp_path, name):
    shown = tmp_path / "shown"
    assert run_test(folder, name, tmp_path, "--show-dir", shown)[0] == 0
    pictures = sorted(shown.iterdir())
    assert [path.stem for path in pictures] == STEMS
    for image_name, height, width, objects in dense_data.IMAGES:
        picture = cv2.imread(str(shown / f"{Path(image_name).stem}.png")).astype(int)
        assert picture.shape == (height, 2 * width, 3)
        image = cv2.imread(str(folder / "images" / image_name)).astype(int)
        if name == "detector":  # pixels without an object are the image's own
            # Some versions of matplotlib smooth the background, noise from 0 to 59.
            drawn = abs(picture[:, :width] - image).max(-1) >= 60
            assert drawn.any() == bool(objects)
            assert not drawn[-2:, -2:].any()


def test_a_name_of_the_data_leads_out_of_no_folder(folder, tmp_path):
    content = json.loads((folder / "coco.json").read_text())
    image = content["images"][0]
    image["file_name"] = f"../images/../../{folder.name}/images/{image['file_name']}"
    data = folder / "outside.json"
    data.write_text(json.dumps(content))
    shown = tmp_path / "deep" / "shown"
    options = f"test_dataloader.dataset.ann_file={data.name}"
    words = ("--show-dir", shown, "--cfg-options", options)
    assert run_test(folder, "detector", tmp_path, *words)[0] == 0
    pictures = {path.relative_to(shown).as_posix() for path in shown.rglob("*.png")}
    named = {f"{stem}.png" for stem in STEMS if stem != "scene"}
    assert pictures == named | {f"{folder.name}/images/scene.png"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["shown"]
    assert not list((tmp_path / "deep").glob("*.png"))


@pytest.mark.parametrize(
    ("name", "metric"), [("detector", "coco/segm_mAP: "), ("segmentor", "mIoU: ")]
)
def test_flips_at_test_time_need_no_config(folder, tmp_path, name, metric):
    out = tmp_path / "predictions.pkl"
    status, printed = run_test(folder, name, tmp_path, "--tta", "--out", out)
    assert status == 0
    assert "TTAModel" in printed
    assert metric in printed
    assert len(pickle.loads(out.read_bytes())) == len(dense_data.IMAGES)


def test_two_processes_train_a_detector(folder, tmp_path):
    config = folder / "detector.py"
    work = tmp_path / "work"
    options = ("--work-dir", work, "--cfg-options", "sync_bn=torch")
    output = run_in_two(tmp_path, "train.py", config, *options)
    # MMEngine's sync_bn wants GPUs, and so does SyncBN in the layers of the config.
    assert "Synchronized batch norm became ordinary batch norm" in output
    assert "coco/segm_mAP: " in output
    losses = toy.losses(work)
    assert sorted(losses) == [1, 2]  # 5 images, 2 in each of 2 processes
    assert all(np.isfinite(list(losses.values())))


def test_two_processes_train_and_test_a_segmentor(folder, tmp_path):
    config = folder / "segmentor.py"
    work = tmp_path / "work"
    output = run_in_two(tmp_path, "train.py", config, "--work-dir", work)
    assert "Synchronized batch norm became ordinary batch norm" in output
    assert "mIoU: " in output
    assert all(np.isfinite(list(toy.losses(work).values())))
    out = tmp_path / "maps"
    words = (config, work / "iter_3.pth", "--out", out, "--work-dir", work)
    run_in_two(tmp_path, "test.py", *words)
    assert sorted(path.stem for path in out.iterdir()) == STEMS


UNIVERSAL = """
_base_ = "detector.py"
model = dict(
    _delete_=True, type="cluenet_mm.ClusterDetector",
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone, neck=_base_.model.neck,
    bbox_head=dict(
        type="cluenet_mm.ClusterHead", task="instances", in_channels=64, num_things=2,
        sample_grid=(3, 3), criterion=dict(num_points=64),
        decoder=dict(num_maps=3, embed_dims=16, num_layers=2, num_heads=2)))
"""


def test_two_processes_train_the_universal_decoder(folder, tmp_path):
    config, work = folder / "universal.py", tmp_path / "work"
    config.write_text(UNIVERSAL)
    output = run_in_two(tmp_path, "train.py", config, "--work-dir", work)
    assert "coco/segm_mAP: " in output  # one of the images has no object
    losses = toy.losses(work)
    assert sorted(losses) == [1, 2]
    assert all(np.isfinite(list(losses.values())))


def test_a_detector_with_rois_refuses_amp_on_a_cpu(folder, tmp_path):
    work = tmp_path / "work"
    command = ("train.py", folder / "detector.py", "--work-dir", work, "--amp")
    output = toy.run(tmp_path, *command, status=1)
    (error,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert "NMS and RoIAlign" in error
    assert "Leave out --amp" in error
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


ONE_STAGE = """
_base_ = "detector.py"
model = dict(
    _delete_=True, type="RetinaNet", data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone, neck=_base_.model.neck,
    bbox_head=dict(
        type="RetinaHead", num_classes=2, in_channels=64, feat_channels=16,
        stacked_convs=1, anchor_generator=dict(
            type="AnchorGenerator", scales=[4], ratios=[1.0], strides=[4, 8, 16])),
    train_cfg=dict(
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4),
        sampler=dict(type="PseudoSampler"), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(nms_pre=100, score_thr=0.0, max_per_img=20,
                  nms=dict(type="nms", iou_threshold=0.5)))
val_evaluator = dict(metric="bbox")
"""


def test_a_detector_without_rois_trains_with_amp_on_a_cpu(folder, tmp_path):
    config, work = folder / "one_stage.py", tmp_path / "work"
    config.write_text(ONE_STAGE)
    output = toy.run(tmp_path, "train.py", config, "--amp", "--work-dir", work)
    assert "mixed precision" in output
    assert "coco/bbox_mAP: " in output
    assert all(np.isfinite(list(toy.losses(work).values())))
    assert toy.losses(work)
