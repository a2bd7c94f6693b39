"""Models of mmdet and mmseg with our backbones, from the lines of docs/detectors.md."""

import re
from pathlib import Path

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from cluenet_mm.building import BuildError
from cluenet_mm.config import read_config
from cluenet_mm.inference import initialize
from cluenet_mm.runner import build_runner

PAGE = Path(__file__).parents[1] / "docs" / "detectors.md"
FILES = dict(
    re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", PAGE.read_text(), re.M | re.S)
)
SIDE = 64


def config(name, folder, replace=("", "")):
    path = folder / f"{name}.py"
    path.write_text(FILES[name].replace(*replace))
    cfg = read_config(str(path))
    cfg.work_dir = str(folder / "work")
    return cfg


def batch(cfg):
    """Two images of noise with a few objects, or with labels of every pixel."""
    torch.manual_seed(0)
    if cfg.default_scope == "mmdet":
        masks = "mask" in cfg.filename or "cascade" in cfg.filename
        return demo_mm_inputs(
            2, (3, SIDE, SIDE), num_items=[2, 3], with_mask=masks, use_box_type=True
        )
    sample = SegDataSample(metainfo={"img_shape": (SIDE, SIDE)})
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, SIDE, SIDE)))
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    return {"inputs": list(images), "data_samples": [sample, sample]}


def test_the_page_has_files_of_at_most_seven_statements():
    names = "retinanet fcos cascade rtmdet dino mask2former upernet segformer"
    assert [name.removeprefix("my_") for name in FILES] == names.split()
    assert all(text.count("\n") <= 8 for text in FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_a_step(name, tmp_path):
    cfg = config(name, tmp_path)
    if "data_preprocessor" in cfg.model and cfg.default_scope == "mmdet":
        cfg.model.data_preprocessor.batch_augments = None  # Mask2Former: 1024 pixels
    if cfg.default_scope == "mmseg":
        cfg.model.data_preprocessor.size = (SIDE, SIDE)
    if name == "my_dino":
        cfg.model.num_queries = 50  # there must be as many points: 85 at this size
    cfg.model.backbone.drop_path_rate = 0.0  # no block is skipped in this one step
    model = build_runner(cfg).model
    initialize(model)
    model.train()
    data = model.data_preprocessor(batch(cfg), training=True)
    loss, parts = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    assert torch.isfinite(loss)
    assert len(parts) > 1
    for stage in model.backbone.stages:
        moved = [p.grad for p in stage.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in moved)
        assert any(grad.any() for grad in moved)


@pytest.mark.parametrize(
    ("replace", "told"),
    [(("_delete_=True, ", ""), "_delete_=True"), (("[32, ", "[16, "), "in_channels")],
)
def test_what_is_forgotten_is_told(replace, told, tmp_path):
    with pytest.raises(BuildError, match=told):
        build_runner(config("my_retinanet", tmp_path, replace))
