"""What the command lines of the tools share."""

import argparse

import dense_data
import pytest

from cluenet_mm import cli, files

CONFIG = "cluenet/cls_digits"


def test_device():
    assert cli.device("cpu") == "cpu"
    for name in ("foo", "cuda:99"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"no device '{name}'"):
            cli.device(name)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (cli.positive, ("1", "12"), ("0", "-3", "x", "1.5")),
        (cli.natural, ("0", "12"), ("-1", "x")),
        (cli.side, ("1", "224"), ("0", "-224", "99999999")),
        (cli.fraction, ("0", "0.5", "1"), ("-0.1", "1.01", "nan", "inf", "x")),
    ],
)
def test_numbers_are_sane(kind, good, bad):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--option", type=kind)
    for text in good:
        assert parser.parse_args([f"--option={text}"]).option == float(text)
    for text in bad:
        with pytest.raises(argparse.ArgumentError, match="argument --option: "):
            parser.parse_args([f"--option={text}"])


def test_one_image_that_fails_ends_no_other(capsys):
    seen = []

    def work(name, image):
        seen.append(image)
        if image == 2:
            raise cli.UnreadableImageError("cannot decode b.png")
        if image == 3:
            files.path_inside("out", "..")

    failed = cli.for_each_image([("a", 1), ("b", 2), ("c", 3), ("d", 4)], work)
    assert seen == [1, 2, 3, 4]
    assert failed[0] == "cannot decode b.png"
    assert failed[1].startswith("c: ValueError: '..' is no name for a file (")
    assert capsys.readouterr().out.endswith("\n")
    assert cli.report_failures(failed, 4) == 1
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["2 of 4 images failed", *(f"error: {line}" for line in failed)]
    assert cli.report_failures([], 4) == 0
    assert capsys.readouterr().err == ""


def test_a_name_that_is_too_long_ends_no_other_but_a_full_disk_does(tmp_path):
    def work(name, image):
        files.write_text(image, "text")

    long, fine = tmp_path / ("x" * 300), tmp_path / "fine"
    failed = cli.for_each_image([("long", long), ("fine", fine)], work)
    assert failed == [f"cannot write {long}: File name too long"]
    assert fine.read_text() == "text"
    unwritable = fine / "below"
    with pytest.raises(SystemExit) as ending:
        cli.for_each_image([("first", unwritable), ("second", tmp_path / "y")], work)
    assert ending.value.code == f"error: cannot write {unwritable}: File exists"
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("train.py", CONFIG, "--work-dir", "{}/x"),
        ("test.py", CONFIG, "x.pth", "--work-dir", "{}/x"),
        ("test.py", CONFIG, "x.pth", "--show-dir", "{}"),
        ("test.py", CONFIG, "x.pth", "--out", "{}/x.pkl"),
        ("test.py", CONFIG, "x.pth", "--out", "{}/x.json"),
        ("test.py", CONFIG, "x.pth", "--out", "{}"),
        ("check_dataset.py", CONFIG, "--json", "{}/x.json"),
        ("check_dataset.py", CONFIG, "--num-samples", "1", "--out-dir", "{}"),
        ("analysis/get_flops.py", CONFIG, "--json", "{}/x.json"),
        (
            *("analysis/cluster_quality.py", CONFIG, "x.pth"),
            *("--dataset", "digits", "--json", "{}/x.json"),
        ),
        ("infer.py", "images", CONFIG, "x.pth", "--out-dir", "{}"),
        ("analysis/benchmark.py", CONFIG, "--json", "{}/x.json"),
        ("visualize/clusters.py", "val", CONFIG, "x.pth", "--out-dir", "{}"),
        ("visualize/explore.py", "val", CONFIG, "x.pth", "--out", "{}/x.html"),
        ("visualize/epochs.py", ".", "--out-dir", "{}"),
    ],
)
def test_tools_refuse_first_what_they_could_not_write(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("kept")
    words = [word.format("afile") for word in words]
    status, message = dense_data.run_tool(*words)
    message = status if isinstance(status, str) else message.splitlines()[-1]
    assert f"{words[-1]} cannot be written: afile is a file, no folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["afile"]
    assert (tmp_path / "afile").read_text() == "kept"
