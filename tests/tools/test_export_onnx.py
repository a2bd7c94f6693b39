"""tools/deploy/export_onnx.py: files that compute what PyTorch computes."""

import json
from pathlib import Path

import dense_data
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from cluenet_mm import config_path
from cluenet_mm.checkpoint import save_checkpoint
from cluenet_mm.deploy import ExportError, export, export_onnx
from cluenet_mm.inference import build_model
from cluenet_mm.tasks import TASKS, task_of

onnx = pytest.importorskip("onnx", reason="an optional requirement")
onnxruntime = pytest.importorskip("onnxruntime", reason="an optional requirement")
for library in ("mmpretrain", "mmseg", "mmdet"):
    pytest.importorskip(library)

# A classifier and a segmentor of every family, small ones.
FAMILIES = {
    "cluenet": ("cls_digits", "semantic_fpn_digits"),
    "coc": ("cls_digits", "semantic_fpn_digits"),
    "fec": ("cls_digits", "semantic_fpn_digits"),
    "clusterformer": ("cls_digits", "semantic_digits"),
}
CLASSIFIERS = [f"{family}/{names[0]}" for family, names in FAMILIES.items()]
SEGMENTORS = [f"{family}/{names[1]}" for family, names in FAMILIES.items()]
# Relative to the largest number of an output. Weights and images are random and
# continuous, so that no point has two nearest centers; rounding is all that is left.
TOLERANCE = 1e-4
CLASSES = ("zero", "one")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a config by its name, such that every branch has its say."""
    folder = tmp_path_factory.mktemp("weights")

    def write(name: str) -> Path:
        path = folder / f"{name.replace('/', '_')}.pth"
        if not path.exists():
            torch.manual_seed(0)
            model = build_model(Config.fromfile(config_path(name)))
            for key, value in model.state_dict().items():
                if key.rpartition(".")[2] in ("scale1", "scale2"):
                    value.fill_(0.5)
                if key.endswith(("conv_seg.weight", "head.fc.weight")):
                    nn.init.normal_(value, std=0.3)
            meta = {"dataset_meta": {"classes": CLASSES}}
            save_checkpoint({"state_dict": model.state_dict(), "meta": meta}, path)
        return path

    return write


def run(name: str, checkpoint: Path, out: Path, *options: object) -> str:
    """Run the tool and return what it printed."""
    words = ("deploy/export_onnx.py", name, checkpoint, out, *options)
    status, printed = dense_data.run_tool(*words)
    assert status == 0, status
    return printed


def compare(name: str, checkpoint: Path, path: Path, *shape: int) -> dict:
    """Compare a file with PyTorch for one batch; returns the file's outputs."""
    cfg = Config.fromfile(config_path(name))
    graph = task_of(cfg).load("graph")(build_model(cfg, str(checkpoint)))
    generator = torch.Generator().manual_seed(5)
    image = 2 * torch.rand(shape, generator=generator) - 1
    with torch.no_grad():
        wanted = graph(image)
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"image": image.numpy()}), strict=True))
    for ours, theirs in zip(wanted, found.values(), strict=True):
        assert tuple(ours.shape) == theirs.shape
        if theirs.dtype == np.int64:  # classes that are as good as each other
            assert (ours.numpy() == theirs).mean() > 0.999
        else:
            scale = float(ours.abs().max())
            assert scale > 0
            assert np.abs(ours.numpy() - theirs).max() <= TOLERANCE * scale
    return found


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_of_one_size(name, checkpoint, tmp_path):
    weights, out = checkpoint(name), tmp_path / "new" / "model.onnx"
    size = ("--size", 45, 70, "--batch-size", 2)
    printed = run(name, weights, out, *size)
    assert "[2, 3, 45, 70] -> scores" in printed
    scores = compare(name, weights, out, 2, 3, 45, 70)["scores"]
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert scores.std() > 0.01  # not the same for all classes
    assert list(out.parent.iterdir()) == [out]
    proto = onnx.load(out)
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    assert properties == {
        "task": "classification",
        "config": f"{name}.py",
        "opset": "18",
        "input_size": "[2, 3, 45, 70]",
        "mean": "[127.5, 127.5, 127.5]",
        "std": "[127.5, 127.5, 127.5]",
        "channel_order": "rgb",
        "classes": json.dumps(CLASSES),
    }


def test_the_size_of_the_config_is_the_default(checkpoint, tmp_path):
    name = "cluenet/cls_digits"
    weights, out = checkpoint(name), tmp_path / "model.onnx"
    run(name, weights, out)
    compare(name, weights, out, 1, 3, 32, 32)
    session = onnxruntime.InferenceSession(out)
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(None, {"image": np.zeros((1, 3, 40, 40), np.float32)})


def test_a_classifier_of_any_size(checkpoint, tmp_path):
    name = "cluenet/cls_digits"
    weights, out = checkpoint(name), tmp_path / "model.onnx"
    printed = run(name, weights, out, "--dynamic")
    assert '["N", 3, "H", "W"] -> scores' in printed
    for shape in ((1, 3, 32, 32), (3, 3, 57, 90)):
        compare(name, weights, out, *shape)


@pytest.mark.parametrize("name", SEGMENTORS)
def test_a_segmentor_of_any_size(name, checkpoint, tmp_path):
    weights, out = checkpoint(name), tmp_path / "model.onnx"
    run(name, weights, out, "--dynamic", "--size", 64, 96)
    for shape in ((2, 3, 64, 96), (1, 3, 75, 101)):
        found = compare(name, weights, out, *shape)
        assert found["labels"].shape == (shape[0], *shape[2:])
        np.testing.assert_array_equal(found["labels"], found["logits"].argmax(axis=1))
        assert found["logits"].std(axis=(2, 3)).max() > 0.01  # one for each pixel


def test_a_segmentor_of_one_size(checkpoint, tmp_path):
    name = "cluenet/semantic_fpn_digits"
    weights, out = checkpoint(name), tmp_path / "model.onnx"
    run(name, weights, out, "--size", 75, 101)
    compare(name, weights, out, 1, 3, 75, 101)


def test_a_detector_gives_its_pyramid(checkpoint, tmp_path):
    config = "cluenet/mask_rcnn_digits"
    weights, out = checkpoint(config), tmp_path / "model.onnx"
    run(config, weights, out, "--dynamic", "--size", 64, 96)
    for shape in ((2, 3, 64, 96), (1, 3, 75, 101)):
        found = compare(config, weights, out, *shape)
        assert list(found) == ["p2", "p3", "p4"]
        for name, stride in (("p2", 4), ("p3", 8), ("p4", 16)):
            sides = tuple(-(-side // stride) for side in shape[2:])
            assert found[name].shape == (shape[0], 64, *sides)


@MODELS.register_module()
class BatchInNumbers(BaseModule):
    """A backbone whose trace keeps the number of traced images as a constant."""

    def forward(self, x):
        return (x * len(x),)


@MODELS.register_module()
class OneSize(BaseModule):
    """A backbone that takes images of 32 pixels alone."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 3, 32, 32))

    def forward(self, x):
        return (x + self.position,)


@MODELS.register_module()
class Asserts(OneSize):
    """The same, and it says so as mmpretrain's Swin does."""

    def forward(self, x):
        assert x.shape == (1, 3, 32, 32)
        return super().forward(x)


@MODELS.register_module()
class Untranslatable(BaseModule):
    """A backbone with an operator that ONNX has no counterpart of."""

    def forward(self, x):
        return (torch.linalg.svd(x)[0] * x,)


def classifier(backbone: str, folder: Path) -> tuple[Config, Path]:
    cfg = Config(
        {
            "default_scope": "mmpretrain",
            "model": {
                "type": "ImageClassifier",
                "backbone": {"type": f"mmengine.{backbone}"},
                "neck": {"type": "GlobalAveragePooling"},
                "head": {"type": "LinearClsHead", "num_classes": 4, "in_channels": 3},
            },
        }
    )
    path = folder / "weights.pth"
    torch.manual_seed(0)
    save_checkpoint({"state_dict": build_model(cfg).state_dict()}, path)
    return cfg, path


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        (
            "BatchInNumbers",
            r"cannot export with dynamic sizes: scores for .* of its length",
        ),
        (
            "OneSize",
            r"cannot run the model on images of 40 x 53 pixels .* cannot use --dynamic",
        ),
        (
            "Asserts",
            r"cannot run the model on images of 40 x 53 pixels .* cannot use --dynamic",
        ),
    ],
)
def test_sizes_that_a_model_cannot_have_open(backbone, reason, tmp_path):
    cfg, weights = classifier(backbone, tmp_path)
    out = tmp_path / "model.onnx"
    out.write_text("old")
    with pytest.raises(ExportError, match=reason):
        export_onnx(cfg, weights, out, dynamic=True)
    assert out.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [out, weights]
    assert export_onnx(cfg, weights, out).distance < 1e-5


def test_a_model_that_no_graph_can_be_made_of(tmp_path):
    cfg, weights = classifier("Untranslatable", tmp_path)
    with pytest.raises(
        ExportError, match=r"cannot export this model: .*svd.* PyTorch$"
    ):
        export_onnx(cfg, weights, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == [weights]


def test_bad_requests_get_one_line(checkpoint, tmp_path):
    name = "cluenet/cls_digits"
    weights, out = checkpoint(name), tmp_path / "model.onnx"
    folder, file = tmp_path / "folder.onnx", tmp_path / "file"
    folder.mkdir()
    file.write_text("")
    other = checkpoint("coc/cls_digits")
    for words, named in {
        ("no/such_config", weights, out): "no/such_config",
        (name, tmp_path / "none.pth", out): "none.pth",
        (name, other, out): "give the config that the checkpoint was trained with",
        (name, weights, tmp_path / "model.pt"): "must end in .onnx",
        (name, weights, folder): "is a folder",
        (name, weights, file / "model.onnx"): "cannot be written",
        (name, weights, out, "--cfg-options", "default_scope=mmpose"): "'mmpose'",
        (
            name,
            weights,
            out,
            "--cfg-options",
            "model.type=Nope",
        ): "cannot build model",
        (
            name,
            weights,
            out,
            "--cfg-options",
            "model.backbone.no=1",
        ): "cannot build model",
        ("_base_/default_runtime_cls", weights, out): "describes no model",
    }.items():
        status, _ = dense_data.run_tool("deploy/export_onnx.py", *words)
        assert str(status).startswith("error: ")
        assert named in status
        assert "\n" not in status
    for option in ("--size", "--batch-size"):
        numbers = (0, 32)[: 2 if option == "--size" else 1]
        words = ("deploy/export_onnx.py", name, weights, out, option, *numbers)
        status, printed = dense_data.run_tool(*words)
        assert status == 2
        assert printed.endswith(f"argument {option}: 0 is not positive\n")
    assert sorted(tmp_path.iterdir()) == [file, folder]


@pytest.mark.parametrize("scope", TASKS)
def test_a_model_of_another_kind_is_named(scope):
    with pytest.raises(ExportError, match="Identity"):
        TASKS[scope].load("graph")(nn.Identity())


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "no_such_runtime"))
    with pytest.raises(
        ExportError, match=r"no_such_runtime not installed. Run `make env`"
    ):
        export_onnx(Config(), "weights.pth", tmp_path / "model.onnx")
