"""Addresses of checkpoints, and the local files behind them."""

import hashlib
import http.client
import os
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

from .. import weights
from ..files import atomic_write
from .safe import CheckpointError

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without an answer


def checkpoint_file(address: str | os.PathLike) -> Path:
    """Find the local file of a checkpoint; what lies elsewhere is fetched first.

    Args:
        address: A path, or an address with one of the ``SCHEMES``. A link may end in
            ``#sha256=...``, at least 8 hexadecimal digits of the hash that its file
            must have; links of OpenMMLab and PyTorch have them in the name of the file
            (``resnet18-f37072fd.pth``).

    Returns:
        The file. That of a path need not exist.

    Raises:
        CheckpointError: There is no such address, the link cannot be fetched whole, or
            its file has another hash.
    """
    text = os.fspath(address)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text).expanduser()
    if scheme not in SCHEMES:
        raise CheckpointError(
            f"cannot load checkpoint {text}: unknown scheme {scheme}://. Give a file, "
            f"or an address that begins with one of {', '.join(SCHEMES)}."
        )
    return SCHEMES[scheme](text)


def fetch(url: str) -> Path:
    """Fetch a link into torch's cache, unless it is there already.

    A file whose name holds its hash is shared with :mod:`torch.hub`; any other is kept
    by its whole address. It takes its place only when it has come whole.

    Args:
        url: See :func:`checkpoint_file`.

    Raises:
        CheckpointError: It does not come whole, or has another hash.
    """
    url, _, fragment = url.partition("#")
    cache = Path(torch.hub.get_dir(), "checkpoints")
    name = unquote(url.partition("?")[0].rpartition("/")[2])
    in_name = re.search(r"-([0-9a-f]{8})\.\w+$", name)
    # Digits alone are a date as a rule.
    if not fragment and in_name and not in_name[1].isdigit():
        sha256, path = in_name[1], cache / name
    else:
        sha256 = _hash_of_fragment(url, fragment)
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        short = re.sub(r"[^\w.-]", "_", name)[-80:]
        path = cache / "cluenet_mm" / f"{key}-{short}"
    try:
        if is_main_process():
            _download(url, path, sha256)
    finally:
        barrier()
    _download(url, path, sha256)  # on machines with another cache than the first one's
    return path


def _hash_of_fragment(url: str, fragment: str) -> str:
    found = re.fullmatch(r"sha256=([0-9a-f]{8,64})", fragment.lower())
    if fragment and not found:
        raise CheckpointError(
            f"cannot load checkpoint {url}#{fragment}: a link may end in #sha256= and "
            "at least 8 hexadecimal digits. Correct the end."
        )
    return found[1] if found else ""


def _download(url: str, path: Path, sha256: str) -> None:
    if path.is_file() and _sha256(path).startswith(sha256):
        return
    print_log(f"Downloading {url} to {path}", logger="current")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "cluenet_mm"})
        with (
            urllib.request.urlopen(request, timeout=_TIMEOUT) as response,
            atomic_write(path) as temporary,
        ):
            with temporary.open("wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
            size, length = temporary.stat().st_size, response.headers["Content-Length"]
            if length is not None and size != int(length):
                raise ValueError(f"the connection ended after {size} of {length} bytes")
            found = _sha256(temporary)
            if not found.startswith(sha256):
                raise ValueError(f"its SHA-256 is {found}, not {sha256}...")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            f"cannot fetch checkpoint {url} to {path}: {reason}. Check address, "
            "network and disk, or give the path of a file."
        ) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _ours(address: str) -> Path:
    """File of published weights."""
    name = address.partition("://")[2]
    table = weights.published()
    if name not in table:
        known = ", ".join(sorted(table)) or "none yet"
        raise CheckpointError(
            f"cannot load checkpoint {address}: no published weights have this name. "
            f"Published are: {known}."
        )
    entry = table[name]
    if "://" in entry.file:
        return fetch(f"{entry.file}#sha256={entry.sha256}")
    path = weights.FOLDER / entry.file
    if not path.is_file() or _sha256(path) != entry.sha256:
        fault = "is damaged: it has another SHA-256" if path.is_file() else "is missing"
        raise CheckpointError(
            f"cannot load checkpoint {address}: {path} {fault}. Install cluenet_mm "
            "again."
        )
    return path


def _named(links: Callable[[], dict[str, str]]) -> Callable[[str], Path]:
    """A scheme of names, whose links MMEngine knows."""

    def find(address: str) -> Path:
        known = links()
        name = address.partition("://")[2]
        if name not in known:
            raise CheckpointError(
                f"cannot load checkpoint {address}: MMEngine knows no such weights. "
                "Give the https link of the file."
            )
        return fetch(known[name])

    return find


SCHEMES: dict[str, Callable[[str], Path]] = {
    "cluenet_mm": _ours,
    "https": fetch,
    "http": fetch,
    "torchvision": _named(get_torchvision_models),
    "modelzoo": _named(get_torchvision_models),
    "open-mmlab": _named(get_external_models),
    "openmmlab": _named(get_external_models),
    "mmcls": _named(dict),  # its stock loader unpickles anything
}
