"""What is inside a report; tests/tools/test_explore.py looks at it with a browser."""

import base64
import io
import json
import re
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from cluenet_mm.backbones import FEC, CLUENet, ClusterFormer
from cluenet_mm.interpret import (
    class_probabilities,
    importance,
    receptive_fields,
    stage_input,
    to_input,
    to_picture,
    trace,
)
from cluenet_mm.interpret.report import (
    Finding,
    ReportImage,
    ReportNetwork,
    rank_clusters,
    write_report,
)


def read(path):
    """The report of all images, and every image."""
    text = path.read_text(encoding="utf-8")
    pattern = r'<script type="application/json" id="(.*?)">(.*?)</script>'
    found = {name: json.loads(data) for name, data in re.findall(pattern, text)}
    report = found.pop("report")
    assert list(found) == [f"image-{i}" for i in range(len(report["images"]))]
    return report, *found.values()


def write(path, images, model=""):
    write_report(path, [ReportNetwork(model, images)])


def unpack(packed):
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, np.dtype(packed["kind"]).newbyteorder("<")).astype(
        np.int64
    )


def photo(record):
    kind, data = record["photo"].removeprefix("data:image/").split(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def noise(*shape):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (*shape, 3), dtype=np.uint8)


def models():
    torch.manual_seed(0)
    yield "cluenet", CLUENet("micro", cluster_grids=(4, 3, 2, 2))
    yield "fec", FEC("small", cluster_grids=(3, 2, 2, 2), fold_grids=(2, 2, 1, 1))
    arch = {**ClusterFormer.arch_settings["mini_cifar"], "patch": (4, 4, 0)}
    yield "clusterformer", ClusterFormer(arch, (3, 2, 2, 2), (2, 2, 1, 1))


@pytest.mark.parametrize("model", [pytest.param(m, id=n) for n, m in models()])
def test_the_maps_of_the_page_lead_to_the_clusters_of_the_trace(model, tmp_path):
    maps = trace(model, torch.randn(2, 3, 75, 90))
    picture = noise(70, 84)  # the input had been padded
    images = [ReportImage("photo", picture, maps, sample=1)]
    write(tmp_path / "report.html", images)
    _, image = read(tmp_path / "report.html")
    (record,) = image["networks"]
    rows, columns = unpack(record["rows"]), unpack(record["columns"])
    points = rows[:, None] * record["sizes"][0][1] + columns
    assert points.shape == (70, 84)
    pools = [unpack(pool) for pool in record["pools"]]
    assert [(x["stage"], x["block"]) for x in record["layers"]] == maps.layers()
    several = 0
    for layer in record["layers"]:
        cells = points
        for pool in pools[: layer["stage"]]:
            cells = pool[cells]
        expected = maps.clusters(layer["stage"], layer["block"], "image")[1]
        expected = expected[:, :70, :84].numpy()
        index = unpack(layer["index"]).reshape(layer["heads"], -1)[:, cells]
        assert (index == expected).all()
        several += len(np.unique(index)) > 1
        similarity = maps.similarity(layer["stage"], layer["block"], "image")[1]
        found = unpack(layer["similarity"]).reshape(layer["heads"], -1)[:, cells] / 255
        assert abs(found - similarity[:, :70, :84].numpy()).max() < 0.5 / 255 + 1e-6
        colors = unpack(layer["colors"])
        assert len(colors) == 3 * layer["heads"] * layer["clusters"]
        assert index.max() < layer["clusters"]
    assert several > 1


def test_pictures_keep_their_colors(color_backbone, tmp_path):
    maps = trace(color_backbone, torch.zeros(1, 3, 200, 320))
    small = noise(40, 60)
    large = np.zeros((200, 320, 3), np.uint8)
    large[:, :160] = (230, 40, 10)
    large[:, 160:] = (10, 90, 200)
    images = [ReportImage("small", small, maps), ReportImage("large", large, maps)]
    write(tmp_path / "report.html", images)
    _, first, second = read(tmp_path / "report.html")
    kind, pixels = photo(first)
    assert kind == "png"
    assert (pixels == small).all()
    kind, pixels = photo(second)
    assert kind == "jpeg"
    assert abs(pixels.astype(int) - large).max() <= 4


def test_importance_of_the_page_is_that_of_the_definition(classifier, tmp_path):
    image = to_input(classifier, noise(40, 48))
    maps = trace(classifier, image)
    predict = class_probabilities(classifier)
    options = (classifier, image[0], maps, 2, "two", [0, -1])
    ranking = rank_clusters(*options)
    assert {c.layer for c in ranking.clusters} == {0, 3}
    assert ranking.probability == pytest.approx(predict(image)[0, 2].item(), abs=1e-6)
    chosen = next(c for c in ranking.clusters if c.layer == 3 and c.head == 1)
    member = maps.clusters(-1, -1, "pixels")[0, 1] == chosen.cluster
    with_it = predict(image * member)[0, 2].item()
    without = predict(image * ~member)[0, 2].item()
    assert chosen.kept == pytest.approx(with_it, abs=1e-6)
    assert chosen.drop == pytest.approx(ranking.probability - without, abs=1e-6)
    inside = stage_input(classifier, image[0])
    points = receptive_fields(maps, head=1, grid="map")
    expected = importance(
        inside.predict, inside.features, points.masks, 2, inside.blank
    )
    fast = rank_clusters(*options, blanked="points")
    ranks = {c.cluster: c for c in fast.clusters if (c.layer, c.head) == (3, 1)}
    assert [ranks[c].drop for c in points.clusters.tolist()] == pytest.approx(
        expected.drop.tolist(), abs=1e-6
    )
    assert (ranking.blanked, fast.blanked) == ("pixels", "points")
    with pytest.raises(ValueError, match="cannot blank 'heads'"):
        rank_clusters(*options, blanked="heads")
    with pytest.raises(IndexError):
        rank_clusters(*options[:-1], [9])
    picture = to_picture(classifier, image)
    entry = ReportImage("x", picture, maps, ranking=ranking)
    write(tmp_path / "report.html", [entry])
    _, image = read(tmp_path / "report.html")
    (record,) = image["networks"]
    written = {
        (c["layer"], c["head"], c["cluster"]): c["drop"]
        for c in record["importance"]["clusters"]
    }
    assert len(written) == len(ranking.clusters)
    place = (3, 1, chosen.cluster)
    assert written[place] == pytest.approx(chosen.drop, abs=1e-5)


def test_the_page_loads_nothing_and_survives_any_name(color_backbone, tmp_path):
    maps = trace(color_backbone, torch.zeros(1, 3, 8, 8))
    name = "</script><script>alert(1)</script>{{style}}"
    findings = [Finding(name, 0.5, (0, 0, 4, 4))]
    entry = ReportImage(name, noise(8, 8), maps, findings=findings, truth=name)
    path = tmp_path / "new" / "report.html"
    write(path, [entry], name)
    text = path.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert re.search(r"default-src 'none'; img-src data:", text)
    addresses = re.findall(r"""<[^>]*(?:src|href)=["']?([^"'>]*)""", text)
    assert addresses == ["data:,"]  # no icon
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    report, image = read(path)
    assert report["networks"][0]["model"] == name
    assert image["networks"][0]["predictions"][0]["name"] == name


def test_a_report_is_written_whole_or_not_at_all(color_backbone, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="at least one image"):
        write(path, [])
    maps = trace(color_backbone, torch.zeros(1, 3, 8, 8))

    def full_disk(*names):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write(path, [ReportImage("x", noise(8, 8), maps)])
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


class Hierarchy:
    """Rows of 16 x 12 pixels in so many parts, of which each cut splits one."""

    def cut(self, k):
        edges = sorted([0, 8, 4, 12, 2, 10, 6, 14][: min(k, 8)])
        rows = np.searchsorted(edges, np.arange(16), side="right")
        return np.repeat(100 - rows[:, None], 12, axis=1)  # other numbers at every k


def test_segments_of_the_page_are_the_cuts_of_the_hierarchy(color_backbone, tmp_path):
    maps = trace(color_backbone, torch.zeros(1, 3, 16, 12))
    # The last rows had been padded, and a cut that splits them changes nothing.
    for height, count in ((16, 8), (13, 7)):
        entry = ReportImage("x", noise(height, 10), maps, segments=Hierarchy())
        write(tmp_path / "report.html", [entry])
        _, image = read(tmp_path / "report.html")
        segments = image["networks"][0]["segments"]
        leaves = unpack(segments["index"]).reshape(height, 10)
        parents = segments["parents"]
        assert len(parents) == leaves.max() + 1 == count
        for k in range(1, count + 1):
            label = []
            for leaf, parent in enumerate(parents):
                label.append(leaf if leaf < k else label[parent])
            found = np.array(label)[leaves]
            assert set(np.unique(found)) == set(range(k))
            cuts = [Hierarchy().cut(i)[:height, :10] for i in range(1, 9)]
            expected = next(cut for cut in cuts if len(np.unique(cut)) == k)
            pairs = np.unique(np.stack([found, expected]).reshape(2, -1), axis=1)
            assert pairs.shape[1] == k  # the same partition


def test_two_networks_must_have_seen_the_same_pixels(color_backbone, tmp_path):
    maps = trace(color_backbone, torch.zeros(1, 3, 16, 12))
    picture = noise(16, 12)
    path = tmp_path / "report.html"

    def beside(other):
        shown = (ReportImage("photo", p, maps) for p in (picture, other))
        networks = [
            ReportNetwork(name, [x]) for name, x in zip("ab", shown, strict=True)
        ]
        write_report(path, networks)

    with pytest.raises(ValueError, match=r"networks on photo: one sees 12 x 16 pixels"):
        beside(picture[:14])
    with pytest.raises(ValueError, match=r"photo: they see different pixels"):
        beside(255 - picture)
    assert not path.exists()
    beside(np.maximum(picture, 1) - 1)  # rounded
    report, image = read(path)
    assert [network["model"] for network in report["networks"]] == ["a", "b"]
    assert image["networks"][0] == image["networks"][1]
