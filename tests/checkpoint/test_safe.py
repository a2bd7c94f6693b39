"""Safe loading and atomic saving."""

import argparse
import functools
import os
import pickle
from collections import OrderedDict
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.runner import save_checkpoint as mmengine_save

from cluenet_mm.checkpoint import (
    CheckpointError,
    load_checkpoint,
    register_atomic_writer,
    save_checkpoint,
)

WEIGHTS = {"state_dict": {"weight": torch.arange(4.0)}}


class Calls:
    """Pickles as a call, with an optional state for what it returns."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def forged_array(dtype: object, data: object) -> Calls:
    reconstruct = np.array([0]).__reduce__()[0]
    state = (1, (1,), dtype, False, data)
    return Calls(reconstruct, (np.ndarray, (0,), b"b"), state)


VOID_STATE = (3, "|", None, None, None, 8, 1, 0)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda mark: Calls(os.system, (f"touch {mark}",)), "posix.system"),
        (lambda mark: Calls(exec, (f"open({str(mark)!r}, 'w')",)), "exec"),
        (lambda mark: Calls(Path.touch, (mark,)), "pathlib.Path"),
        (lambda mark: Calls(open, (str(mark), "w")), "open"),
        (lambda mark: Calls(os.mkdir, (str(mark),)), "posix.mkdir"),
    ],
)
def test_code_is_refused_and_does_not_run(tmp_path, call, named, legacy, mmap):
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    payload = {**WEIGHTS, "extra": call(mark)}
    torch.save(payload, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="is refused") as seen:
        load_checkpoint(path, mmap=mmap)
    assert named in str(seen.value)
    assert str(path) in str(seen.value)
    assert not mark.exists()
    # The payload does run where nobody looks.
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    "forged",
    [
        Calls(getattr, (HistoryBuffer, "__init__")),
        Calls(getattr, (HistoryBuffer, "register_statistics")),
        Calls(getattr, (torch.Tensor, "min")),
        Calls(getattr, (Calls(getattr, (HistoryBuffer, "min")), "__globals__")),
        Calls(np.dtype, ("V8", False, True), VOID_STATE),
        Calls(np.dtype, ("f8,O", False, True)),
        np.array([{}], dtype=object),
        np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        forged_array(np.dtype("O"), [1]),
        forged_array("O", [1]),
        forged_array(np.dtype("f8"), b"too short"),
        forged_array(np.dtype("f8"), [1.0]),
        Calls(np.ndarray, ((4,), "f8")),
        Calls(HistoryBuffer, ([1], [1])),
        Calls(object.__new__, (HistoryBuffer,), {"mean": print}),
        Calls(bytes, (10,)),
    ],
)
def test_what_only_looks_like_a_checkpoint_is_refused(tmp_path, forged):
    save_checkpoint({"extra": forged}, tmp_path / "forged.pth")
    with pytest.raises(CheckpointError, match=r"forged\.pth"):
        load_checkpoint(tmp_path / "forged.pth")


def test_a_forged_history_leaves_no_trace(tmp_path):
    """The state of a HistoryBuffer may carry methods; none is taken over."""
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    buffer._statistics_methods = {"mean": HistoryBuffer.max}
    buffer.max = "shadowed"
    save_checkpoint({"buffer": buffer}, tmp_path / "buffer.pth")
    before = dict(HistoryBuffer._statistics_methods)
    loaded = load_checkpoint(tmp_path / "buffer.pth")["buffer"]
    assert type(loaded) is HistoryBuffer
    assert loaded.statistics("mean") == 1.5
    assert loaded.max() == 2.0
    assert before == HistoryBuffer._statistics_methods


def test_plain_values_come_back_as_they_were(tmp_path):
    values = {
        "scalars": [np.float64(3), np.int32(-4), np.bool_(True), np.str_("text"), 1j],
        "arrays": (
            np.arange(6).reshape(2, 3),
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.arange(3, dtype=">i4"),
            np.array(["a", "bcd"]),
            np.zeros((0, 4), np.float32),
            np.array(2.5),
            np.array([True, False]),
        ),
        "options": argparse.Namespace(lr=0.1, mean=np.ones(3), out=Path("a/b")),
        "weights": OrderedDict(w=torch.ones(2, dtype=torch.bfloat16)),
        "bytes": b"\x00\xff",
        "dtype": np.dtype("f4"),
    }
    values["weights"]._metadata = OrderedDict({"": {"version": 1}})
    save_checkpoint(values, tmp_path / "values.pth")
    loaded = load_checkpoint(str(tmp_path / "values.pth"))
    assert loaded["scalars"] == values["scalars"]
    assert [type(v) for v in loaded["scalars"]] == [type(v) for v in values["scalars"]]
    for new, old in zip(loaded["arrays"], values["arrays"], strict=True):
        assert type(new) is np.ndarray
        np.testing.assert_array_equal(new, old)
        assert new.dtype == old.dtype.newbyteorder("=")
    assert loaded["options"].lr == 0.1
    assert type(loaded["options"].mean) is np.ndarray
    assert loaded["options"].out == PurePath("a/b")
    assert torch.equal(loaded["weights"]["w"], values["weights"]["w"])
    assert loaded["weights"]._metadata == values["weights"]._metadata
    assert loaded["bytes"] == b"\x00\xff"
    assert loaded["dtype"] == np.dtype("f4")


def test_names_of_numpy_1_are_known(tmp_path):
    path = tmp_path / "numpy1.pth"
    torch.save({"value": np.float64(3)}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in old
    path.write_bytes(old)
    assert load_checkpoint(path) == {"value": 3.0}


def test_the_allow_list_ends_with_the_call(tmp_path):
    torch.serialization.add_safe_globals([functools.partial])
    try:
        save_checkpoint({"f": functools.partial(abs)}, tmp_path / "partial.pth")
        with pytest.raises(CheckpointError, match=r"functools\.partial"):
            load_checkpoint(tmp_path / "partial.pth")
        assert functools.partial in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()
    save_checkpoint({"h": HistoryBuffer()}, tmp_path / "history.pth")
    assert load_checkpoint(tmp_path / "history.pth")["h"].data[0].size == 0
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "history.pth", weights_only=True)


@pytest.mark.parametrize("mmap", [False, True])
def test_bad_files_are_one_line_with_the_name(tmp_path, mmap):
    path = tmp_path / "model.pth"
    with pytest.raises(FileNotFoundError, match=r"model\.pth does not exist"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_checkpoint(tmp_path)
    endless = {}
    endless["self"] = endless
    torch.save(endless, path)
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        load_checkpoint(path, mmap=mmap)
    save_checkpoint(WEIGHTS, path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(b"ctorch._utils")] = 255
    for content, message in (
        (b"", "is empty"),
        (whole[: len(whole) // 2], "is cut short"),
        (b"<html>not found</html>", "is no PyTorch checkpoint"),
        (bytes(damaged), "is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as seen:
            load_checkpoint(path, mmap=mmap)
        assert str(path) in str(seen.value)
        assert "\n" not in str(seen.value)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list, not a dictionary"):
        load_checkpoint(path)
    with pytest.raises(RuntimeError, match="nodevice"):
        load_checkpoint(path, "nodevice")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_look_at_a_checkpoint_leaves_its_tensors_in_the_file(tmp_path, legacy):
    weight = torch.randn(1_000_000)
    content = {"state_dict": {"weight": weight}, "meta": {"epoch": 3}}
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    before = bytes_read()
    loaded = load_checkpoint(path, mmap=True)
    assert (bytes_read() - before < 100_000) is not legacy
    assert loaded["meta"] == {"epoch": 3}
    assert torch.equal(loaded["state_dict"]["weight"], weight)


def bytes_read() -> int:
    """By this process so far, without what it looked at through mapped memory."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_saving_replaces_the_file_or_leaves_it(tmp_path):
    path = tmp_path / "new" / "model.pth"
    save_checkpoint(WEIGHTS, path)
    with pytest.raises(Exception, match="lambda"):
        save_checkpoint({"code": lambda: 0}, path)
    assert torch.equal(load_checkpoint(path)["state_dict"]["weight"], torch.arange(4.0))
    assert list(path.parent.iterdir()) == [path]

    register_atomic_writer()
    before = path.stat().st_ino
    mmengine_save(WEIGHTS, str(path))
    assert path.stat().st_ino != before
    assert list(path.parent.iterdir()) == [path]


def changed(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]


def test_no_changed_byte_loads_as_other_weights(tmp_path):
    path = tmp_path / "model.pth"
    weights = {f"layer{i}": torch.randn(40, 40) for i in range(4)}
    save_checkpoint({"state_dict": weights, "meta": {"epoch": 3}}, path)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(whole), (200,), generator=generator).tolist()
    refused = []
    for at in places:
        path.write_bytes(changed(whole, at))
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            refused.append(str(error))
        else:  # in the padding, or a date
            assert all(
                torch.equal(loaded["state_dict"][k], weights[k]) for k in weights
            )
            assert loaded["meta"] == {"epoch": 3}
    assert len(refused) > 150
    assert all(str(path) in line and "\n" not in line for line in refused)

    inside = whole.index(weights["layer2"].numpy().tobytes()) + 100
    path.write_bytes(changed(whole, inside))
    torch.load(path, weights_only=True)  # PyTorch does not notice
    with pytest.raises(CheckpointError, match=r"checksum of .*/data/2 in it is wrong"):
        load_checkpoint(path)


def test_files_without_checksums_are_loaded_with_a_word_in_the_log(tmp_path, caplog):
    path = tmp_path / "old.pth"
    logger = MMLogger.get_instance("checkpoints", log_level="INFO")
    logger.addHandler(caplog.handler)
    torch.save(WEIGHTS, path)
    load_checkpoint(path)
    assert not caplog.records
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_checkpoint(path)["state_dict"]["weight"], torch.arange(4.0))
    (record,) = caplog.records
    assert f"{path} has the format of PyTorch before 1.6" in record.getMessage()


def test_a_name_that_no_file_can_have_is_one_line():
    with pytest.raises(FileNotFoundError, match=r"xxx\.pth cannot be opened \(.*long"):
        load_checkpoint("x" * 300 + ".pth")
