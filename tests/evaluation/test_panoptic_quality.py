import json
from collections import defaultdict

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from mmdet.evaluation.functional import INSTANCE_OFFSET, panoptic_utils
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.registry import METRICS, init_default_scope
from mmengine.structures import PixelData

from cluenet_mm.datasets.panoptic_png import read_panoptic, write_panoptic
from cluenet_mm.evaluation.segments import COUNTS

# Categories of a file and their labels; one has no segment anywhere.
CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1},
    {"id": 8, "name": "dog", "isthing": 1},
    {"id": 9, "name": "unicorn", "isthing": 1},
    {"id": 40, "name": "sky", "isthing": 0},
    {"id": 41, "name": "grass", "isthing": 0},
]
CLASSES = tuple(category["name"] for category in CATEGORIES)
USED = (0, 1, 3, 4)
SIZE = (40, 56)
IMAGES = 12


def rectangles(rng, count):
    """Index of rectangles over each other, ``count`` where there is none."""
    index = np.full(SIZE, count)
    for number in range(count):
        top, left = rng.integers(0, SIZE[0] - 8), rng.integers(0, SIZE[1] - 8)
        height, width = rng.integers(8, 30, 2)
        index[top : top + height, left : left + width] = number
    return index


def random_image(rng, number):
    """Annotation and ids of an image, and a prediction that resembles them."""
    count = 9
    index = rectangles(rng, count)
    labels = np.append(rng.choice(USED, count), len(CLASSES))
    crowd = (rng.random(count) < 0.25) & (labels[:-1] < 2)
    for label in (0, 1):  # one crowd of a class an image, as in COCO
        crowd[np.flatnonzero(crowd & (labels[:-1] == label))[1:]] = False
    ids = np.append(rng.choice(256**3 - 1, count, replace=False) + 1, 0)
    segments = [
        {
            "id": int(ids[i]),
            "category_id": CATEGORIES[labels[i]]["id"],
            "iscrowd": int(crowd[i]),
            "area": int((index == i).sum()),
        }
        for i in range(count)
        if (index == i).any()
    ]
    name = f"{number:03d}.png"
    truth = {"image_id": number, "file_name": name, "segments_info": segments}
    other = np.roll(index, rng.integers(-3, 4, 2), (0, 1))
    extra = rectangles(rng, 2)
    other = np.where(extra < 2, count - 1 - extra, other)
    wrong = rng.random(count) < 0.15
    guess = np.where(wrong, rng.choice(USED, count), labels[:-1])
    guess = np.append(guess, len(CLASSES))
    # Also where no segment is, something is predicted.
    guess = np.where(rng.random(count + 1) < 0.1, rng.choice(USED, count + 1), guess)
    return truth, ids[index], guess[other] + INSTANCE_OFFSET * other


def sample_of(prediction, **metainfo):
    sample = DetDataSample(metainfo=metainfo)
    map_ = torch.as_tensor(np.asarray(prediction))[None]
    sample.pred_panoptic_seg = PixelData(sem_seg=map_)
    return sample.to_dict()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Folder of random annotations, and samples with predictions."""
    folder = tmp_path_factory.mktemp("panoptic")
    rng = np.random.default_rng(5)
    annotations, samples = [], []
    for number in range(IMAGES):
        truth, ids, prediction = random_image(rng, number)
        write_panoptic(folder / "maps" / truth["file_name"], ids)
        annotations.append(truth)
        samples.append(sample_of(prediction, img_id=number))
    images = [
        {"id": i, "file_name": f"{i:03d}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i in range(IMAGES)
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "panoptic.json").write_text(json.dumps(content))
    return folder, annotations, samples


def build(meta, **options):
    init_default_scope("mmdet")
    metric = METRICS.build({"type": "cluenet_mm.PanopticQuality", **options})
    metric.dataset_meta = meta
    return metric


def metric_of(folder, **options):
    files = {"ann_file": f"{folder}/panoptic.json", "seg_prefix": f"{folder}/maps"}
    return build({"classes": CLASSES}, **files | options)


def evaluate(metric, samples):
    for start in range(0, len(samples), 5):
        metric.process(None, samples[start : start + 5])
    return metric.evaluate(len(samples))


def counted_by_definition(ids, truth, prediction):
    """Sets of pixels, one pair of segments after the other."""
    counts = np.zeros((len(CLASSES), len(COUNTS)))
    label_of = {category["id"]: i for i, category in enumerate(CATEGORIES)}
    void = ids == 0
    true = [
        (ids == s["id"], label_of[s["category_id"]], s["iscrowd"])
        for s in truth["segments_info"]
    ]
    found = [
        (prediction == code, code % INSTANCE_OFFSET)
        for code in np.unique(prediction)
        if code % INSTANCE_OFFSET < len(CLASSES)
    ]
    matched = set()
    for i, (mask, label, crowd) in enumerate(true):
        for j, (other, guess) in enumerate(found):
            union = (mask | (other & ~void)).sum()
            iou = (mask & other).sum() / union
            if not crowd and label == guess and iou > 0.5:
                counts[label, :2] += iou, 1
                matched |= {("true", i), ("found", j)}
    for i, (_, label, crowd) in enumerate(true):
        counts[label, 3] += not crowd and ("true", i) not in matched
    for j, (other, guess) in enumerate(found):
        excused = void.copy()
        for mask, label, crowd in true:
            if crowd and label == guess:
                excused |= mask
        excused = (other & excused).sum() > other.sum() / 2
        counts[guess, 2] += not excused and ("found", j) not in matched
    return counts


def test_counts_are_those_of_the_definition(scenes):
    folder, annotations, samples = scenes
    metric = metric_of(folder)
    metric.process(None, samples)
    total = np.zeros((len(CLASSES), len(COUNTS)))
    for truth, sample, (counts, _) in zip(
        annotations, samples, metric.results, strict=True
    ):
        ids = read_panoptic(str(folder / "maps" / truth["file_name"]))
        prediction = sample["pred_panoptic_seg"]["sem_seg"][0].numpy()
        expected = counted_by_definition(ids, truth, prediction)
        np.testing.assert_allclose(counts, expected, rtol=1e-12)
        total += counts
    assert (total[list(USED)] > 0).all()  # every rule had its cases
    assert (total[CLASSES.index("unicorn")] == 0).all()


class OfficialCount:
    """What the official code counts of a class."""

    def __init__(self):
        self.iou, self.tp, self.fp, self.fn = 0.0, 0, 0, 0


def test_the_official_code_gives_the_same(scenes, tmp_path, monkeypatch):
    folder, annotations, samples = scenes
    prefix = tmp_path / "out" / "results"
    metrics = evaluate(metric_of(folder, outfile_prefix=str(prefix)), samples)
    written = json.loads((tmp_path / "out" / "results.panoptic.json").read_text())

    def rgb2id(rgb):
        return np.dot(rgb.astype(np.int64), (1, 256, 256**2))

    # mmdet's copy of the official loop over segments, with the written files.
    monkeypatch.setattr(panoptic_utils, "rgb2id", rgb2id)
    monkeypatch.setattr(panoptic_utils, "PQStat", lambda: defaultdict(OfficialCount))
    stat = panoptic_utils.pq_compute_single_core(
        0,
        list(zip(annotations, written["annotations"], strict=True)),
        str(folder / "maps"),
        f"{prefix}.panoptic",
        {category["id"]: category for category in CATEGORIES},
    )
    qualities = {"": [], "_th": [], "_st": []}
    for category in CATEGORIES:
        count = stat[category["id"]]
        size = count.tp + count.fp / 2 + count.fn / 2
        if size:
            values = (count.iou / size, count.iou / count.tp, count.tp / size)
            qualities[""].append(values)
            qualities["_th" if category["isthing"] else "_st"].append(values)
    expected = {
        f"coco_panoptic/{name}{suffix}": 100 * value
        for suffix, rows in qualities.items()
        for name, value in zip(("PQ", "SQ", "RQ"), np.mean(rows, 0), strict=True)
    }
    assert metrics == pytest.approx(expected, rel=1e-9)
    assert 10 < metrics["coco_panoptic/PQ"] < 90


def test_written_predictions_are_the_predictions(scenes, tmp_path):
    folder, _, samples = scenes
    options = {"format_only": True, "seg_prefix": None}
    metric = metric_of(folder, outfile_prefix=str(tmp_path / "test"), **options)
    assert evaluate(metric, samples) == {}
    written = json.loads((tmp_path / "test.panoptic.json").read_text())["annotations"]
    assert [entry["image_id"] for entry in written] == list(range(IMAGES))
    for entry, sample in zip(written, samples, strict=True):
        ids = read_panoptic(str(tmp_path / "test.panoptic" / entry["file_name"]))
        prediction = sample["pred_panoptic_seg"]["sem_seg"][0].numpy()
        rebuilt = np.full(SIZE, len(CLASSES))
        for segment in entry["segments_info"]:
            mask = ids == segment["id"]
            assert segment["area"] == mask.sum() > 0
            assert len(np.unique(prediction[mask])) == 1
            names = [category["id"] for category in CATEGORIES]
            rebuilt[mask] = names.index(segment["category_id"])
        assert (rebuilt == prediction % INSTANCE_OFFSET).all()


def test_a_name_of_the_data_leads_out_of_no_folder(scenes, tmp_path):
    folder, _, samples = scenes
    content = json.loads((folder / "panoptic.json").read_text())
    content["images"][0]["file_name"] = "../../out.jpg"
    (tmp_path / "outside.json").write_text(json.dumps(content))
    metric = metric_of(
        folder,
        ann_file=str(tmp_path / "outside.json"),
        outfile_prefix=str(tmp_path / "deep" / "test"),
        format_only=True,
    )
    evaluate(metric, samples)
    written = json.loads((tmp_path / "deep" / "test.panoptic.json").read_text())
    assert written["annotations"][0]["file_name"] == "out.png"
    assert (tmp_path / "deep" / "test.panoptic" / "out.png").is_file()
    assert not (tmp_path / "out.png").exists()


def test_results_of_processes_join(scenes):
    folder, _, samples = scenes
    together = metric_of(folder)
    expected = evaluate(together, samples)
    parts = metric_of(folder), metric_of(folder)
    for part, own in zip(parts, (samples[::2], samples[1::2]), strict=True):
        part.process(None, own)
    joined = [r for pair in zip(*(p.results for p in parts), strict=True) for r in pair]
    metrics = parts[0].compute_metrics(joined)
    assert {f"coco_panoptic/{k}": v for k, v in metrics.items()} == expected


def ideal(ids, segments):
    """The truth, of which crowds may be predicted as one segment."""
    label_of = {category["id"]: i for i, category in enumerate(CATEGORIES)}
    codes = np.full(ids.shape, len(CLASSES))
    for number, segment in enumerate(segments):
        label = label_of[segment["category_id"]]
        codes[ids == segment["id"]] = label + INSTANCE_OFFSET * number
    return codes


def nothing(ids, segments):
    return np.full(ids.shape, len(CLASSES))


def unlabeled(ids, segments):
    """Things where no segment is."""
    return np.where(ids == 0, 0, len(CLASSES))


@pytest.mark.parametrize(
    ("predict", "expected"), [(ideal, 100), (nothing, 0), (unlabeled, 0)]
)
def test_extremes(scenes, predict, expected):
    folder, annotations, _ = scenes
    samples = []
    for truth in annotations:
        ids = read_panoptic(str(folder / "maps" / truth["file_name"]))
        prediction = predict(ids, truth["segments_info"])
        samples.append(sample_of(prediction, img_id=truth["image_id"]))
    metric = metric_of(folder)
    metric.process(None, samples)
    counts = sum(counts for counts, _ in metric.results)
    assert counts[:, COUNTS.index("spurious")].sum() == 0
    metrics = metric.evaluate(len(samples))
    assert len(metrics) == 9
    assert list(metrics.values()) == pytest.approx([expected] * 9)


def test_a_group_without_segments_has_no_number(scenes, tmp_path):
    folder, _, samples = scenes
    content = json.loads((folder / "panoptic.json").read_text())
    for category in content["categories"]:
        category["isthing"] = 1
    path = tmp_path / "things.json"
    path.write_text(json.dumps(content))
    metrics = evaluate(metric_of(folder, ann_file=str(path)), samples)
    assert sorted(metrics) == [
        f"coco_panoptic/{name}"
        for name in ("PQ", "PQ_th", "RQ", "RQ_th", "SQ", "SQ_th")
    ]
    assert metrics["coco_panoptic/PQ"] == metrics["coco_panoptic/PQ_th"]


def test_every_class_is_printed_if_asked(scenes, caplog):
    folder, _, samples = scenes
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    for classwise in (False, True):
        evaluate(metric_of(folder, classwise=classwise), samples)
    logger.removeHandler(caplog.handler)
    assert caplog.text.count("things (2 classes)") == 2
    assert caplog.text.count("\ngrass ") == 1
    unicorn = next(x for x in caplog.text.splitlines() if x.startswith("unicorn"))
    assert unicorn.split() == ["unicorn", "-", "-", "-"]


def test_mistakes_are_named(scenes, tmp_path):
    folder, _, samples = scenes
    empty = np.full(SIZE, len(CLASSES))
    reversed_ = {"classes": CLASSES[::-1]}
    files = {"ann_file": f"{folder}/panoptic.json", "seg_prefix": f"{folder}/maps"}
    cases = [
        (metric_of(folder), sample_of(empty, img_id=77), "no image with the id 77"),
        (metric_of(folder), {"img_id": 1}, "predicts no pred_panoptic_seg"),
        (metric_of(folder), sample_of(empty + 2, img_id=1), "class 7 is predicted"),
        (metric_of(folder), sample_of(empty[1:], img_id=1), r"\(39, 56\) and not"),
        (build(reversed_, **files), samples[0], "'cat' stands where 'grass' should"),
        (build({"classes": ("fly",)}, **files), samples[0], "'fly' is missing"),
    ]
    for metric, sample, message in cases:
        with pytest.raises(ValueError, match=message):
            metric.process(None, [sample])
    with pytest.raises(FileNotFoundError, match=r"000\.png"):
        metric_of(folder, seg_prefix=str(tmp_path)).process(None, samples[:1])
    with pytest.raises(ValueError, match="outfile_prefix"):
        metric_of(folder, format_only=True)
    with pytest.raises(ValueError, match="seg_prefix"):
        metric_of(folder, seg_prefix=None)
