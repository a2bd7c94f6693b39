"""Without a GPU, Triton's kernels run in its interpreter, which is chosen at import."""

import functools
import os

import pytest
import torch

from cluenet_mm.memory import keep_free_memory

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    keep_free_memory()  # as train.py does: page faults cost more than the arithmetic


@pytest.fixture
def impl(request):
    """Run a test inside ``implementation(...)``; for ``parametrize(indirect=True)``."""
    from cluenet_mm.ops import implementation

    with implementation(request.param):
        yield request.param


@pytest.fixture
def tile_bytes(request, monkeypatch):
    """Bound the tiles of the tables of a test; ``None`` leaves the default."""
    from cluenet_mm.ops.assign import tiled

    if request.param is not None:
        monkeypatch.setitem(tiled.TILE_BYTES, "cpu", request.param)
    return request.param


@pytest.fixture(scope="session")
def digits_scenes_root(tmp_path_factory):
    """The scenes of digits, made once for all workers; they are only read."""
    from cluenet_mm.datasets.digits_scenes import prepare_scenes

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    prepare_scenes(folder / "digits_scenes")
    return folder / "digits_scenes"


@pytest.fixture(scope="session", autouse=True)
def read_model_indices_once():
    """MMEngine reads a library's hundred metafiles for every base config there."""
    from mmengine.config import config, utils

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((utils, "load"), (config, "is_installed")):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield
