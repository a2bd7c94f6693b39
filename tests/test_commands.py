"""The tools as commands of the package."""

import re

import pytest

from cluenet_mm import __main__ as package
from cluenet_mm import config_names, config_path, tool_path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["cluenet_mm", *words])
    return package.main(), *capsys.readouterr()


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_all_commands_are_listed_and_described(monkeypatch, capsys, words):
    status, printed, _ = run(monkeypatch, capsys, *words)
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", printed, re.MULTILINE))
    assert status == 0
    assert set(listed) == {"config", *package.commands()}
    assert {"train", "test", "infer", "export_onnx", "dist_train"} <= set(listed)
    assert not {"docs_tables", "dist_run"} & set(listed)
    assert all(len(text) > 20 for text in listed.values())


def test_a_command_is_its_tool(monkeypatch, capsys):
    assert package.commands()["infer"].samefile(tool_path("infer.py"))
    with pytest.raises(SystemExit) as ending:
        run(monkeypatch, capsys, "infer", "--help")
    assert ending.value.code == 0
    assert "usage: infer.py" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: cannot read config nonsense"):
        run(monkeypatch, capsys, "test", "nonsense", "weights.pth")


def test_configs_are_named_and_found(monkeypatch, capsys):
    status, printed, _ = run(monkeypatch, capsys, "config", "cluenet/cls_digits")
    assert (status, printed) == (0, f"{config_path('cluenet/cls_digits')}\n")
    _, printed, _ = run(monkeypatch, capsys, "config")
    assert printed.splitlines() == config_names()
    status, _, error = run(monkeypatch, capsys, "config", "cls_digit")
    assert status == 1
    assert "cannot find a config named 'cls_digit'" in error


def test_a_slip_names_the_command_that_was_meant(monkeypatch, capsys):
    status, _, error = run(monkeypatch, capsys, "trian")
    assert status == 2
    assert "has no command trian; is train meant?" in error
