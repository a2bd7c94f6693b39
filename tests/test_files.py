"""Files are complete or untouched."""

import errno
import resource
import subprocess
import sys

import pytest

from cluenet_mm.files import (
    WriteError,
    atomic_write,
    check_writable,
    path_inside,
    write_text,
)


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "picture.png"
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == path.parent
        temporary.write_bytes(b"picture")
        assert not path.exists()
    assert path.read_bytes() == b"picture"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "notes"
    write_text(path, "old ä")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert path.read_text(encoding="utf-8") == "old ä"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "nothing"
    message = f"cannot write {path}: No such file"
    with pytest.raises(WriteError, match=message), atomic_write(path):
        pass
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from cluenet_mm.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print(*sorted(os.listdir(temporary.parent)), flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    def start(name, what):
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / name), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    running = start("slow.pth", "stay")
    mine = running.stdout.readline().strip()
    assert start("epoch_2.pth", "kill").wait() == -9
    (left,) = [path.name for path in tmp_path.iterdir() if path.name != mine]
    assert left.startswith(".epoch_2.")
    (tmp_path / ".epoch_2.notes.partial.txt").write_text("of the user")
    second = start("epoch_2.pth", "stay")
    names = second.stdout.readline().split()
    assert mine in names  # its process writes it still
    assert left not in names
    assert ".epoch_2.notes.partial.txt" in names
    for process in (running, second):
        process.communicate("")
    assert (tmp_path / "slow.pth").read_bytes() == b"half"


def test_a_full_disk_is_one_line_with_the_path(tmp_path):
    path = tmp_path / "notes"
    write_text(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))
    try:
        with pytest.raises(WriteError) as ending:
            write_text(path, "longer than a file may be")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(ending.value) == f"cannot write {path}: File too large"
    assert ending.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_atomic_itself_is_no_other_file(tmp_path):
    """As MMEngine's file backend, to which visualizers hand their pictures."""
    path = tmp_path / "picture.png"
    path.mkdir()

    def write_twice():
        with atomic_write(path) as temporary:
            temporary.mkdir()
            write_text(temporary, "text")

    with pytest.raises(WriteError) as ending:
        write_twice()
    assert str(ending.value) == f"cannot write {path}: Is a directory"
    assert ending.value.errno == errno.EISDIR


def test_another_file_that_cannot_be_written_is_named(tmp_path):
    other = tmp_path / "file" / "x"
    (tmp_path / "file").write_text("")

    def write_both():
        with atomic_write(tmp_path / "y"):
            write_text(other, "text")

    with pytest.raises(WriteError, match=f"cannot write {other}: "):
        write_both()


def test_names_may_be_as_long_as_the_file_system_lets_them(tmp_path):
    longest = tmp_path / f"{'x' * 251}.png"
    write_text(longest, "text")
    assert longest.read_text() == "text"
    path = tmp_path / f"{'x' * 252}.png"
    with pytest.raises(WriteError, match=r"^cannot write .*x\.png: File name too"):
        write_text(path, "text")
    assert list(tmp_path.iterdir()) == [longest]
    with pytest.raises(ValueError, match="cannot be written: File name too long"):
        check_writable(path)


def test_an_error_of_another_file_is_left_as_it_is(tmp_path):
    def copy():
        with atomic_write(tmp_path / "notes"):
            (tmp_path / "other").read_text()

    with pytest.raises(FileNotFoundError, match="other") as ending:
        copy()
    assert not isinstance(ending.value, WriteError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b.png", "out/b.png"),
        ("a/b.png", "out/a/b.png"),
        ("a/../b.png", "out/b.png"),
        ("../../b.png", "out/b.png"),
        ("a/../../b.png", "out/b.png"),
        ("/etc/b.png", "out/etc/b.png"),
        ("..b.png", "out/..b.png"),
    ],
)
def test_a_name_from_data_stays_inside(name, expected):
    assert path_inside("out", name).as_posix() == expected


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/.."])
def test_no_name_is_refused(name):
    with pytest.raises(ValueError, match="is no name for a file"):
        path_inside("out", name)


def test_a_target_that_can_be_written_is_let_pass_and_not_made(tmp_path):
    (tmp_path / "old").write_text("old")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    check_writable(tmp_path / "old")
    check_writable(tmp_path / "new" / "deep" / "file.json")
    check_writable(tmp_path / "new" / "deep", folder=True)
    check_writable(tmp_path / "folder", folder=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("folder", False, "folder is a folder: give the name of a file"),
        ("old", True, "old is a file, no folder"),
        ("old/x/y", True, "old is a file, no folder"),
        ("old/x.json", False, "old is a file, no folder"),
        ("/dev/null/x.json", False, "/dev/null is a file, no folder"),
        ("/proc/x.json", False, "/proc takes no files"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused(tmp_path, name, folder, message):
    (tmp_path / "old").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=message):
        check_writable(tmp_path / name, folder)
