"""The report of explore.py in a real browser: Debian's Chromium, driven by Playwright.

What the page lights up is compared with the Python trace of the same image.
"""

import json
import re
import shutil
from pathlib import Path

import dense_data
import numpy as np
import processes
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from cluenet_mm import config_path
from cluenet_mm.inference import build_model
from cluenet_mm.interpret import class_probabilities, to_input, trace
from cluenet_mm.interpret.segments import merge_tree

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A frame may take this part of the time in which the page opened: 0.6 s on a machine
# of two cores, where a frame has 16 ms at 60 Hz. Both take longer on a busy one.
FRAME = 1 / 20
MINUS = "\N{MINUS SIGN}"
SIZES = {"wide.png": (44, 60), "tall.png": (57, 38)}


def explore(*words):
    return processes.run("visualize/explore.py", *words)


def weights(name, folder):
    """A model with random weights, and the file that holds them."""
    torch.manual_seed(1)
    model = build_model(Config.fromfile(config_path(name)))
    path = folder / f"{name.replace('/', '_')}.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path, model.eval()


def picture(height, width, seed=0):
    """Blobs of colors: smooth enough for clusters with an inside."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    path, model = weights("cluenet/cls_digits", folder)
    return path, model


@pytest.fixture(scope="module")
def report(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for i, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(picture(*size, seed=i)).save(folder / name)
    images = [folder / name for name in SIZES]
    options = ("--out", folder / "report.html", "--importance", "all")
    result = explore(*images, "cluenet/cls_digits", classifier[0], *options)
    assert result.returncode == 0, result.stderr
    assert "2 images" in result.stdout
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs the Python package playwright"
    )
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip("needs a browser: apt-get install chromium")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=found[0],
            args=["--no-sandbox"],  # in a container, Chromium's own cannot start
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """A function that opens a report; at the end no page may have complained."""
    contexts, faults = [], []

    def opened(path, **options):
        options = {"viewport": {"width": 1440, "height": 900}, **options}
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:")) or faults.append(request.url)
            ),
        )
        page.goto(Path(path).as_uri())
        page.wait_for_selector("main[aria-busy=false]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def hover(page, x, y, size, selector="#main"):
    """Point at the middle of a pixel of the photo."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    height, width = size
    page.mouse.move(
        box["x"] + (x + 0.5) * box["width"] / width,
        box["y"] + (y + 0.5) * box["height"] / height,
    )
    frame(page)


def frame(page):
    page.evaluate("new Promise(f => requestAnimationFrame(() => setTimeout(f)))")


def lit(page):
    """Cluster that is lit in every small view, by stage and head."""
    found = page.evaluate(
        "[...document.querySelectorAll('.matrix button')]"
        ".filter(b => b.dataset.stage >= 0).map(b => ({...b.dataset}))"
    )
    return {(int(t["stage"]), int(t["head"])): int(t["cluster"]) for t in found}


def readout(page):
    data = page.evaluate("({...document.getElementById('readout').dataset})")
    return tuple(int(data[name]) for name in ("stage", "block", "head", "cluster"))


def color(page, x, y, size, name="main"):
    """Color of a view at the middle of a pixel."""
    return page.evaluate(
        """([x, y, name]) => {
          const canvas = document.getElementById(name);
          const at = [x * canvas.width, y * canvas.height].map(Math.floor);
          return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
        }""",
        [(x + 0.5) / size[1], (y + 0.5) / size[0], name],
    )


def clusters_at(maps, x, y):
    return {
        (stage, head): int(cluster)
        for stage, block in maps.layers()
        for head, cluster in enumerate(maps.clusters(stage, block, "image")[0, :, y, x])
    }


def test_hovering_lights_the_clusters_of_the_trace(report, classifier, visit):
    size = SIZES["wide.png"]
    image = picture(*size)
    maps = trace(classifier[1], to_input(classifier[1], image))
    assert any(len(c.index.unique()) > 2 for blocks in maps.blocks for c in blocks)
    page = visit(report)
    assert set(lit(page).values()) == {-1}
    seen = set()
    for x, y in ((0, 0), (59, 43), (30, 20), (7, 40), (52, 3), (33, 35)):
        hover(page, x, y, size)
        expected = clusters_at(maps, x, y)
        assert lit(page) == expected
        stage, _, head, cluster = readout(page)
        assert expected[stage, head] == cluster
        assert f"Row {y}, column {x}" in page.inner_text("#pointed")
        seen.add(tuple(expected.values()))
    assert len(seen) > 2
    page.mouse.move(2, 2)
    frame(page)
    assert set(lit(page).values()) == {-1}
    # A small view is a photo to point at too.
    hover(page, 30, 20, size, ".matrix button >> nth=1 >> canvas")
    assert lit(page) == clusters_at(maps, 30, 20)


def test_what_is_lit_has_the_colors_of_the_photo(report, classifier, visit):
    size = SIZES["wide.png"]
    image = picture(*size)
    maps = trace(classifier[1], to_input(classifier[1], image))
    page = visit(report)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    index = maps.clusters(0, 0, "image")[0, 0].numpy()
    bright = image.mean(2) > 150
    inside = np.zeros(size, bool)  # away from lines between clusters
    for y in range(2, size[0] - 2):
        for x in range(2, size[1] - 2):
            inside[y, x] = len(np.unique(index[y - 2 : y + 3, x - 2 : x + 3])) == 1
    y, x = np.argwhere(inside & bright)[0]
    hover(page, int(x), int(y), size)
    assert readout(page)[0] == 0
    found = color(page, x, y, size)
    assert np.abs(np.array(found[:3]) - image[y, x]).max() <= 12
    others = inside & bright & (index != index[y, x])
    y, x = np.argwhere(others)[0]
    red, green, blue, _ = color(page, x, y, size)
    assert red == green == blue < 0.5 * image[y, x].mean()


def test_the_list_ranks_by_importance_and_lights_its_cluster(report, classifier, visit):
    size = SIZES["wide.png"]
    model = classifier[1]
    image = to_input(model, picture(*size))
    maps = trace(model, image)
    predict = class_probabilities(model)
    full = predict(image)[0]
    label = int(full.argmax())
    page = visit(report)
    assert page.inner_text("#scores li:first-child").split()[0] == str(label)
    page.keyboard.press("1")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    rows = page.locator("#list button")
    scores = []
    for i in range(rows.count()):
        cluster = int(rows.nth(i).get_attribute("data-cluster"))
        member = maps.clusters(0, 0, "pixels")[0, 0] == cluster
        drop = (full - predict(image * ~member)[0])[label].item()
        kept = predict(image * member)[0, label].item()
        shown = rows.nth(i).locator(".number").inner_text()
        assert float(shown.replace(MINUS, "-")) == pytest.approx(-drop, abs=6e-4)
        scores.append((drop + kept) / 2)
    assert len(scores) > 2
    assert scores == sorted(scores, reverse=True) or np.diff(scores).max() < 1e-4
    rows.nth(1).hover()
    frame(page)
    chosen = int(rows.nth(1).get_attribute("data-cluster"))
    assert readout(page) == (0, 0, 0, chosen)
    assert {k for k, v in lit(page).items() if v >= 0} == {(0, 0)}


def test_the_keyboard_walks_stages_heads_pixels_and_images(report, visit):
    page = visit(report)
    for key, stage in (("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowRight", 2)):
        page.keyboard.press(key)
        frame(page)
        assert readout(page)[0] == stage
        assert page.input_value("#step") == str(stage)
    page.keyboard.press("3")
    frame(page)
    assert readout(page)[2] == 2
    page.keyboard.press("ArrowUp")
    frame(page)
    assert readout(page)[2] == 1
    assert page.get_attribute("#matrices [aria-pressed=true]", "data-head") == "1"
    page.keyboard.press("Shift+ArrowRight")
    frame(page)
    assert "Row 22, column 32" in page.inner_text("#pointed")
    assert -1 not in lit(page).values()
    page.keyboard.press("Escape")
    frame(page)
    assert set(lit(page).values()) == {-1}
    page.keyboard.press("]")
    page.locator("#view-title", has_text="tall.png").wait_for()
    frame(page)
    assert "38 \N{MULTIPLICATION SIGN} 57 pixels" in page.inner_text("#pointed")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    page.focus(".matrix button >> nth=0")  # with Tab, as every control
    page.keyboard.press("Enter")
    frame(page)
    assert readout(page)[:3] == (0, 0, 0)


def test_touch_holds_a_pixel_on_a_small_screen(report, classifier, visit):
    size = SIZES["wide.png"]
    maps = trace(classifier[1], to_input(classifier[1], picture(*size)))
    page = visit(report, viewport={"width": 390, "height": 844}, has_touch=True)
    box = page.locator("#main").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    page.touchscreen.tap(
        box["x"] + 10.5 / size[1] * box["width"],
        box["y"] + 30.5 / size[0] * box["height"],
    )
    frame(page)
    assert lit(page) == clusters_at(maps, 10, 30)
    page.mouse.move(1, 1)
    frame(page)
    assert "held" in page.inner_text("#pointed")


def tile(page, stage, head=0):
    selector = f".matrix button[data-stage='{stage}'][data-head='{head}']"
    return page.locator(selector)


def test_the_photo_beside_the_lit_one_stays_as_it_is(report, visit):
    page = visit(report)
    size = SIZES["wide.png"]
    image = picture(*size)
    photo, main = (
        page.locator(f"#{name}").bounding_box() for name in ("photo", "main")
    )
    assert photo["y"] == main["y"]
    assert photo["x"] + photo["width"] < main["x"]
    assert photo["width"] == pytest.approx(main["width"], abs=1)
    hover(page, 30, 20, size, "#photo")
    assert -1 not in lit(page).values()
    for x, y in ((3, 5), (30, 20), (55, 40)):
        found = color(page, x, y, size, "photo")[:3]
        assert np.abs(np.array(found) - image[y, x]).max() <= 1


def test_a_slider_merges_all_stages_to_segments(report, classifier, visit):
    size = SIZES["wide.png"]
    image = to_input(classifier[1], picture(*size))
    tree = merge_tree(trace(classifier[1], image))
    page = visit(report)
    tile(page, -1).click()
    assert page.get_attribute("#step", "aria-valuetext") == "segments"
    for count in (2, 7, 30):
        page.locator("#count").fill(str(count))
        page.locator("#counted", has_text=str(count)).wait_for()
        frame(page)
        assert page.locator("#list button").count() == count
        expected = np.asarray(tree.cut(count))
        seen = {}
        for x, y in ((0, 0), (59, 43), (30, 20), (7, 40), (52, 3), (33, 35)):
            hover(page, x, y, size)
            assert readout(page)[0] == -1
            seen.setdefault(expected[y, x], set()).add(readout(page)[3])
        assert all(len(numbers) == 1 for numbers in seen.values())
        assert len(set.union(*seen.values())) == len(seen)
    page.locator("#main").focus()
    page.keyboard.press("-")
    frame(page)
    assert page.locator("#list button").count() == 29
    page.keyboard.press("]")
    page.locator("#view-title", has_text="tall.png: segments").wait_for()
    assert page.locator("#list button").count() == 29


def test_a_native_segmentor_shows_the_cells_that_decide(visit, tmp_path):
    path, model = weights("cluenet/native_digits", tmp_path)
    image = picture(128, 128)
    Image.fromarray(image).save(tmp_path / "scene.png")
    out = tmp_path / "report.html"
    result = explore(
        tmp_path / "scene.png", "cluenet/native_digits", path, "--out", out
    )
    assert result.returncode == 0, result.stderr
    maps = trace(model, to_input(model, image))
    page = visit(out)
    for stage in (1, 2, 3):
        tile(page, -1 - stage).click()
        assert page.get_attribute("#step", "aria-valuetext") == (
            f"cells of stage {stage + 1}"
        )
        cells = maps.cells(stage, grid="pixels")[0]
        for x, y in ((3, 5), (64, 90), (120, 40)):
            hover(page, x, y, (128, 128))
            assert readout(page)[3] == cells[y, x]


@pytest.fixture(scope="module")
def two(classifier, tmp_path_factory):
    """A network beside the same network before a training."""
    folder = tmp_path_factory.mktemp("two")
    Image.fromarray(picture(44, 60)).save(folder / "wide.png")
    options = ("--beside", "cluenet/cls_digits", "untrained", "--no-segments")
    options += ("--importance", "none", "--out", folder / "report.html")
    result = explore(folder / "wide.png", "cluenet/cls_digits", classifier[0], *options)
    assert result.returncode == 0, result.stderr
    return folder / "report.html"


def test_two_networks_light_the_clusters_of_one_pixel(two, classifier, visit):
    size = SIZES["wide.png"]
    torch.manual_seed(0)
    other = build_model(Config.fromfile(config_path("cluenet/cls_digits")))
    other.init_weights()
    image = to_input(classifier[1], picture(*size))
    maps = [trace(model, image) for model in (classifier[1], other)]
    page = visit(two)
    assert page.is_hidden("#segments")
    assert "Network B" in page.inner_text("#models")
    assert "untrained" in page.inner_text("#models")
    differs = 0
    for x, y in ((7, 40), (52, 3), (33, 35)):
        hover(page, x, y, size)
        for number, selector in enumerate(("#readout", "#readout1")):
            data = page.evaluate(
                f"({{...document.querySelector('{selector}').dataset}})"
            )
            stage, head, cluster = (int(data[k]) for k in ("stage", "head", "cluster"))
            assert clusters_at(maps[number], x, y)[stage, head] == cluster
        differs += clusters_at(maps[0], x, y) != clusters_at(maps[1], x, y)
    assert differs
    page.mouse.move(2, 2)
    page.keyboard.press("n")
    assert "Network B" in page.inner_text("#clusters-title")
    page.keyboard.press("ArrowLeft")
    frame(page)
    assert readout(page)[0] == 2  # walks with the other
    page.keyboard.press("+")  # this report has no segments
    frame(page)
    assert readout(page)[0] == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    phone = visit(two, viewport={"width": 390, "height": 844})
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_control_has_a_name(report, visit):
    page = visit(report)
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas[role]")]
          .filter(e => e.checkVisibility())
          .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length
                         || e.querySelector("img[alt]")))
          .map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert page.get_by_role("slider", name="Stage").count() == 1
    assert page.get_by_role("slider", name="Segments").count() == 1
    assert page.get_attribute("#step", "aria-valuetext") == "stage 4"


@pytest.fixture(scope="module")
def large_report(tmp_path_factory):
    """1024 x 1024 pixels, 256 x 256 points, several blocks a stage, regions."""
    folder = tmp_path_factory.mktemp("large")
    path, _ = weights("fec/cls_imagenet_small", folder)
    Image.fromarray(picture(300, 300)).save(folder / "large.png")
    out = folder / "report.html"
    options = ("--size", 1024, "--importance", "none", "--no-segments", "--out", out)
    result = explore(folder / "large.png", "fec/cls_imagenet_small", path, *options)
    assert result.returncode == 0, result.stderr
    return out


@pytest.mark.parametrize("device_scale_factor", [1, 2])
def test_large_images_stay_fluid(large_report, visit, device_scale_factor):
    page = visit(large_report, device_scale_factor=device_scale_factor)
    ready = page.evaluate("performance.getEntriesByName('cluenet-ready')[0].startTime")
    frame(page)
    assert readout(page)[:2] == (3, 1)
    page.keyboard.press("ArrowLeft")
    frame(page)
    assert readout(page)[:2] == (3, 0)  # an earlier block of the same stage
    page.evaluate(
        """() => {
          window.times = [];
          const note = (list) =>
            window.times.push(...list.getEntriesByName("cluenet-draw"));
          new PerformanceObserver(note).observe({entryTypes: ["measure"]});
        }"""
    )
    for i in range(30):
        hover(page, (i * 337) % 1024, (i * 211) % 1024, (1024, 1024))
    times = page.evaluate("window.times.map(entry => entry.duration)")
    print(
        f"{large_report.stat().st_size / 1e6:.2f} MB, ready after {ready:.0f} ms, "
        f"hover {np.median(times):.1f} ms (median), {max(times):.1f} ms (worst)"
    )
    assert len(times) >= 25
    assert np.median(times) < FRAME * ready
    assert large_report.stat().st_size < 8e6


def parsed(path, name="report"):
    pattern = rf'<script type="application/json" id="{name}">(.*?)</script>'
    return json.loads(re.search(pattern, path.read_text(), re.DOTALL).group(1))


@pytest.mark.parametrize(
    ("config", "title"),
    [
        ("cluenet/mask_rcnn_digits", "Instances found"),
        ("cluenet/semantic_fpn_digits", "Classes found, by area"),
    ],
)
def test_detectors_and_segmentors(config, title, tmp_path, visit):
    path, _ = weights(config, tmp_path)
    Image.fromarray(picture(50, 70)).save(tmp_path / "scene.png")
    out = tmp_path / "report.html"
    options = ("--out", out, "--score-thr", 0.0)
    result = explore(tmp_path / "scene.png", config, path, *options)
    assert result.returncode == 0, result.stderr
    assert parsed(out)["networks"][0]["title"] == title
    (image,) = parsed(out, "image-0")["networks"]
    assert image["importance"] is None
    if "fpn" in config:
        shares = [found["score"] for found in image["predictions"]]
        assert sum(shares) == pytest.approx(1)
    page = visit(out)
    assert page.inner_text("#predictions-title") == title
    assert "Importance is for classifiers" in page.inner_text("#clusters-note")
    page.locator("#main").hover()
    frame(page)
    assert -1 not in lit(page).values()


def test_the_gallery_shows_trained_beside_untrained_and_links_its_pictures(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "")  # no browser, no screenshot of a report
    words = ("--docs", tmp_path, "--size", 32)
    result = processes.run("dev/make_gallery.py", *words)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "gallery.md").read_text(encoding="utf-8")
    assert "cluenet_mm://cluenet_micro_cifar100" in page
    pictures = [tmp_path / name for name in re.findall(r"\]\((images/[^)]*)\)", page)]
    assert len(pictures) >= 4
    assert sum(p.stat().st_size for p in pictures) < 1e6
    assert set(pictures) == set((tmp_path / "images" / "gallery").iterdir())
    for path in pictures:
        image = np.asarray(Image.open(path)).astype(int)
        assert image.shape[1] > 500
        half = len(image) // 2
        assert np.abs(image[:half] - image[-half:]).max() > 50


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Here are an old report, a good and a damaged image, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    Path("report.html").write_text("old")
    Path("cut.png").write_bytes(b"\x89PNG")
    Path("empty").mkdir()
    Image.fromarray(picture(40, 40)).save("good.png")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cut.png"], "error: cannot decode cut.png: it is damaged or not an image"),
        (
            ["good.png", "none.png"],
            "error: cannot read images: none.png does not exist. Give a file, a folder "
            "or a pattern such as 'photos/*.jpg'",
        ),
        (
            ["empty"],
            "error: cannot read images: empty contains none. Give a folder with images "
            "(.bmp, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp)",
        ),
        (["good.png", "--size", "0"], "argument --size: 0 is not positive"),
        (["good.png", "--size", "99999"], "argument --size: 99999 is more than 16384"),
        (["good.png", "--out", "empty"], "empty is a folder: give the name of a file"),
        (
            [
                *("good.png", "--beside", "cluenet/cls_imagenet_tiny", "untrained"),
                *("--importance", "none"),
            ],
            "error: cannot show two networks on good.png: one sees 40 x 40 pixels, the "
            "other 224 x 224. Give both the same test pipeline.",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_old_report(
    words, message, classifier, workplace
):
    files = set(workplace.iterdir())
    (image, *rest) = words
    images = [image, *(w for w in rest if w.endswith(".png"))]
    options = ("--out", "report.html", *words[len(images) :])
    model = ("cluenet/cls_digits", classifier[0])
    words = ("visualize/explore.py", *images, *model, *options)
    status, printed = dense_data.run_tool(*words)
    assert status not in (0, None)
    line = status if isinstance(status, str) else printed.splitlines()[-1]
    assert line.endswith(message)
    assert "\n" not in line
    assert Path("report.html").read_text() == "old"
    assert set(workplace.iterdir()) == files


def test_a_pattern_alone_is_for_the_published_network(workplace):
    status, _ = dense_data.run_tool("visualize/explore.py", "none/*")
    assert "none/* does not exist" in status


def test_a_damaged_image_does_not_end_a_folder(classifier, workplace):
    model = ("cluenet/cls_digits", classifier[0])
    options = ("--out", "report.html", "--importance", "none")
    words = ("visualize/explore.py", ".", *model, *options)
    status, printed = dense_data.run_tool(*words)
    assert status == 1
    assert [image["name"] for image in parsed(Path("report.html"))["images"]] == [
        "good.png"
    ]
    assert printed.splitlines()[-3].startswith("report.html: 1 image, ")
    assert printed.splitlines()[-2:] == [
        "1 of 2 images failed",
        "error: cannot decode cut.png: it is damaged or not an image",
    ]
