"""The hook's pictures over a training, as strips and animations."""

import dense_data
import numpy as np
import pytest
from PIL import Image

from cluenet_mm.interpret.epochs import hook_pictures

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)


def draw(folder, run, position, iteration, color):
    folder = folder / run / "vis_data" / "vis_image"
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (120, 40), color)
    picture.save(folder / f"clusters_{position}_{iteration}.png")


@pytest.fixture
def run(tmp_path):
    """Two images over three epochs; the last one was drawn again by a resumed run."""
    for iteration, color in ((9, RED), (90, GREEN), (900, RED)):
        draw(tmp_path, "20260101_000000", 0, iteration, color)
        draw(tmp_path, "20260101_000000", 20, iteration, color)
    draw(tmp_path, "20260102_000000", 0, 900, BLUE)
    return tmp_path


def colors(image):
    """Colors of the pictures from top to bottom, without their labels."""
    column = np.asarray(image.convert("RGB"))[:, -1].astype(int)
    saturated = column[column.max(1) - column.min(1) > 100]
    changes = np.r_[True, (np.abs(np.diff(saturated, axis=0)) > 60).any(1)]
    return [tuple(np.round(c, -1)) for c in saturated[changes]]


def epochs(run, *options):
    words = ("visualize/epochs.py", run, "--out-dir", run / "out", *options)
    return dense_data.run_tool(*words)


def test_a_strip_has_the_pictures_in_order_and_the_last_of_a_resumed_run(run):
    assert list(hook_pictures(run)[0]) == [9, 90, 900]
    status, printed = epochs(run)
    assert status == 0
    assert printed.splitlines()[0].endswith("clusters_0.png: pictures: 3")
    assert colors(Image.open(run / "out" / "clusters_0.png")) == [RED, GREEN, BLUE]
    assert colors(Image.open(run / "out" / "clusters_20.png")) == [RED, GREEN, RED]
    status, _ = epochs(run, "--limit", "2")  # the first and the last
    assert colors(Image.open(run / "out" / "clusters_0.png")) == [RED, BLUE]


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_has_a_frame_a_picture(run, kind):
    status, _ = epochs(run, "--format", kind)
    assert status == 0
    movie = Image.open(run / "out" / f"clusters_0.{kind}")
    assert movie.n_frames == 3
    for frame, color in enumerate((RED, GREEN, BLUE)):
        movie.seek(frame)
        found = movie.convert("RGB").getpixel((60, movie.height - 20))
        assert np.abs(np.subtract(found, color)).max() <= 20


def test_a_damaged_picture_is_one_line(run):
    (picture,) = run.glob("*/vis_data/vis_image/clusters_20_90.png")
    picture.write_bytes(picture.read_bytes()[:40])
    status, _ = epochs(run)
    assert status == f"error: cannot decode {picture}: it is damaged or not an image"


def test_a_training_without_the_hook_is_one_line(tmp_path):
    status, _ = epochs(tmp_path)
    assert status.startswith(f"error: cannot find pictures of clusters in {tmp_path}")
    assert "ClusterVisualizationHook" in status
    assert not list(tmp_path.iterdir())
