"""Image files: found, read, resized and named."""

import cv2
import numpy as np
import pytest

from cluenet_mm.inference.images import (
    UnreadableImageError,
    find_images,
    read_image,
    resize_shorter_side,
)


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.jpg", "b.png", "sub/c.JPG", "out/d.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(found, folder):
    return {name: path.relative_to(folder).as_posix() for name, path in found.items()}


def test_files_folders_and_patterns(folder):
    everything = {
        "a": "a.png",
        "b.jpg": "b.jpg",
        "b.png": "b.png",
        "out/d": "out/d.png",
        "sub/c": "sub/c.JPG",
    }
    assert names(find_images(folder), folder) == everything
    del everything["out/d"]
    assert names(find_images(folder, folder / "out"), folder) == everything
    one = {"notes": "notes.txt"}  # what is named is taken, whatever its suffix
    assert names(find_images(folder / "notes.txt"), folder) == one
    found = find_images(f"{folder}/*.png")
    assert names(found, folder) == {"a": "a.png", "b": "b.png"}
    assert list(find_images(f"{folder}/*/*.JPG")) == ["sub/c"]
    assert len(find_images(f"{folder}/**/*.png")) == 3
    (folder / "b.jpg.bmp").touch()  # without its suffix it is called as another is
    assert names(find_images(f"{folder}/b.*"), folder) == {
        name: name for name in ("b.jpg", "b.jpg.bmp", "b.png")
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.png", "none.png does not exist"),
        ("*.webp", r"\*.webp does not exist"),
        ("*.txt", r"\*.txt contains none"),
        ("hollow", "hollow contains none"),
    ],
)
def test_no_image_is_an_error(folder, name, message):
    (folder / "hollow").mkdir()
    with pytest.raises(FileNotFoundError, match=f"cannot read images: .*{message}"):
        find_images(folder / name)


def test_images_are_read_as_rgb(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), pixels[..., ::-1])
    assert (read_image(tmp_path / "x.png") == pixels).all()
    for content in (b"", b"\x89PNG", b"text"):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(UnreadableImageError, match=r"cannot decode .*x\.png"):
            read_image(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((40, 60), 20, (20, 30)),
        ((60, 40), 80, (120, 80)),
        ((7, 1000), 3, (3, 429)),
        ((40, 60), 40, (40, 60)),
    ],
)
def test_the_shorter_side_is_the_one_asked_for(size, side, expected):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized = resize_shorter_side(image, side)
    assert resized.shape == (*expected, 3)
    if expected == size:
        assert (resized == image).all()


def test_shrinking_averages():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize_shorter_side(stripes, 4) == 100).all()
