"""Addresses of checkpoints."""

import functools
import hashlib
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader

from cluenet_mm.checkpoint import (
    CheckpointError,
    checkpoint_file,
    load_checkpoint,
    register_safe_loader,
)


class Server(SimpleHTTPRequestHandler):
    """Serves a folder; what is asked for with ``?cut`` ends half-way."""

    requests = 0

    def do_GET(self):
        type(self).requests += 1
        super().do_GET()

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(
            content[: len(content) // 2] if "cut" in self.path else content
        )

    def log_message(self, format, *args):
        pass


@pytest.fixture
def website(tmp_path, monkeypatch):
    """Serve ``tmp_path/site``; torch's download cache is beside it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Server, "requests", 0)
    (tmp_path / "site").mkdir()
    handler = functools.partial(Server, directory=tmp_path / "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "site", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def save(path, value=0.0):
    path.parent.mkdir(exist_ok=True)
    torch.save({"state_dict": {"w": torch.tensor([value])}}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def value(address):
    return load_checkpoint(address)["state_dict"]["w"].item()


def cached(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


class Evil:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def test_links_are_loaded_safely_too(website, tmp_path):
    register_safe_loader()
    folder, address = website
    torch.save({"lr": np.float64(0.1)}, folder / "good.pth")
    torch.save({"evil": Evil(os.mkdir, (str(tmp_path / "mark"),))}, folder / "evil.pth")
    loaded = CheckpointLoader.load_checkpoint(f"{address}/good.pth", "cpu")
    assert loaded["lr"] == 0.1
    with pytest.raises(CheckpointError, match=r"posix\.mkdir"):
        CheckpointLoader.load_checkpoint(f"{address}/evil.pth", "cpu")
    assert not (tmp_path / "mark").exists()
    for unknown in ("torchvision://resnet0", "mmcls://resnet50"):
        with pytest.raises(CheckpointError, match="no such weights"):
            CheckpointLoader.load_checkpoint(unknown, "cpu")


def test_a_link_is_fetched_once_and_kept_by_its_whole_address(website):
    folder, address = website
    for name, number in (("a", 1.0), ("b", 2.0)):
        save(folder / name / "epoch_12.pth", number)
    for _ in range(2):
        assert value(f"{address}/a/epoch_12.pth") == 1
        assert value(f"{address}/b/epoch_12.pth") == 2
    assert Server.requests == 2
    assert value(f"{address}/b/epoch_12.pth?token=1") == 2
    save(folder / "b" / "epoch_12.pth", 3.0)
    assert value(f"{address}/b/epoch_12.pth?token=1") == 2
    assert value(f"{address}/b/epoch_12.pth?token=2") == 3


def test_a_hash_behind_the_link_is_verified(website, tmp_path):
    folder, address = website
    sha256 = save(folder / "w.pth", 1.0)
    link = f"{address}/w.pth"
    assert value(f"{link}#sha256={sha256}") == 1
    assert value(f"{link}#sha256={sha256[:8].upper()}") == 1
    assert Server.requests == 1
    # Other content under the same address is fetched when its hash is asked for.
    other = save(folder / "w.pth", 2.0)
    assert value(f"{link}#sha256={other}") == 2
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {other}, not {sha256}"):
        value(f"{link}#sha256={sha256}")
    assert value(link) == 2
    with pytest.raises(CheckpointError, match="may end in #sha256="):
        value(f"{link}#sha265={sha256}")
    assert len(cached(tmp_path)) == 1


def test_a_hash_in_the_name_is_verified_and_shares_torch_s_cache(website, tmp_path):
    folder, address = website
    sha256 = save(folder / "w.pth", 1.0)
    while sha256[:8].isdigit():
        sha256 = save(folder / "w.pth", torch.rand(1).item())
    named = folder / f"net_20240102-{sha256[:8]}.pth"
    (folder / "w.pth").rename(named)
    path = checkpoint_file(f"{address}/{named.name}")
    assert path == tmp_path / "cache" / "hub" / "checkpoints" / named.name
    path.write_bytes(path.read_bytes()[:100])  # as a cut download of another program
    assert checkpoint_file(f"{address}/{named.name}").read_bytes() == named.read_bytes()
    save(named, 5.0)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"is [0-9a-f]{{64}}, not {sha256[:8]}"):
        checkpoint_file(f"{address}/{named.name}")
    assert not cached(tmp_path)
    # A date is no hash.
    save(folder / "net-20240102.pth", 7.0)
    assert value(f"{address}/net-20240102.pth") == 7


def test_a_cut_download_or_a_web_page_does_not_stay(website, tmp_path):
    folder, address = website
    save(folder / "w.pth", 1.0)
    size = (folder / "w.pth").stat().st_size
    with pytest.raises(CheckpointError) as seen:
        value(f"{address}/w.pth?cut")
    assert f"cannot fetch checkpoint {address}/w.pth?cut" in str(seen.value)
    assert f"the connection ended after {size // 2} of {size} bytes" in str(seen.value)
    assert not cached(tmp_path)
    (folder / "page.pth").write_text("<html>Please log in</html>")
    with pytest.raises(CheckpointError, match="no PyTorch checkpoint"):
        value(f"{address}/page.pth")
    assert not cached(tmp_path)
    save(folder / "page.pth", 4.0)
    assert value(f"{address}/page.pth") == 4


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "http://127.0.0.1:1/w.pth",
            "cannot fetch checkpoint .*refused.* Check address",
        ),
        ("{site}/gone.pth", r"gone\.pth to .*: HTTP Error 404"),
        ("http://[", "cannot fetch checkpoint"),
        ("s3:/", "does not exist"),
        ("ftp://host/w.pth", "unknown scheme ftp://.* one of cluenet_mm, https"),
        ("open-mmlab://nothing", "no such weights. Give the https link"),
        (
            "cluenet_mm://nothing",
            "no published weights have this name. Published are: ",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(website, tmp_path, address, message):
    with pytest.raises(CheckpointError, match=message) as seen:
        load_checkpoint(address.format(site=website[1]))
    assert "\n" not in str(seen.value)
    assert not cached(tmp_path)
