"""Operators of the exported graphs, against PyTorch's, at sizes that stay open."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cluenet_mm.deploy.symbolics import OPSET, project_symbolics

onnxruntime = pytest.importorskip("onnxruntime", reason="an optional requirement")
pytest.importorskip("onnx", reason="an optional requirement")


class Pool(nn.Module):
    def forward(self, x):
        return F.adaptive_avg_pool2d(x, (3, 4))


class PoolToHalf(nn.Module):
    def forward(self, x):
        return F.adaptive_avg_pool2d(x, [-(-side // 2) for side in x.shape[2:]])


class NormOfMaps(nn.Module):
    def forward(self, x):
        return F.layer_norm(x, x.shape[1:], eps=1e-3)


class NormOfChannels(nn.Module):
    def forward(self, x):
        weight, bias = torch.linspace(-1, 2, 6), torch.linspace(3, 1, 6)
        return F.layer_norm(x.permute(0, 2, 3, 1), (6,), weight, bias)


class Divided(nn.Module):
    """How far a side is from the next multiple of five, and from the one below."""

    def forward(self, x):
        above = -5 * (-x.size(3) // 5) - x.size(3)
        return x[:, :, :, : above + 1], x[:, :, :, : x.size(3) // 5]


class Regions(nn.Module):
    """Sizes that come from a cut dimension are those of the image at hand."""

    def forward(self, x):
        x = F.pad(x, (0, 6 * 9 - x.size(3))).unflatten(3, (6, -1)).flatten(0, 1)
        return x.new_ones(1).repeat(x.size(0)), x


class Sums(nn.Module):
    def forward(self, x):
        rows = x.flatten(0, 2)
        index = torch.arange(rows.size(0)) % 3
        return x.new_zeros(3, x.size(3)).index_add(0, index, rows)


@pytest.mark.parametrize(
    "module",
    [Pool, PoolToHalf, NormOfMaps, NormOfChannels, Divided, Regions, Sums],
    ids=lambda module: module.__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_an_operator_is_that_of_pytorch_at_any_size(module, tmp_path):
    path = tmp_path / "operator.onnx"
    axes = {"x": {0: "N", 2: "H", 3: "W"}}
    image = torch.randn(2, 6, 11, 13)
    with project_symbolics():
        torch.onnx.export(
            module(),
            (image,),
            str(path),
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(path)
    for size in ((2, 6, 11, 13), (1, 6, 12, 16), (3, 6, 2, 5), (5, 6, 25, 54)):
        image = torch.randn(size)
        wanted = module()(image)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for ours, found in zip(
            wanted, session.run(None, {"x": image.numpy()}), strict=True
        ):
            torch.testing.assert_close(torch.from_numpy(found), ours)


def test_the_operators_of_others_come_back():
    class Flattened(nn.Module):
        def forward(self, x):
            return F.adaptive_avg_pool2d(x, (3, 4))

    with project_symbolics():
        pass
    with pytest.raises(torch.onnx.errors.OnnxExporterError), pytest.warns():
        torch.onnx.export(
            Flattened(),
            (torch.zeros(1, 2, 11, 13),),
            "unused.onnx",
            opset_version=OPSET,
            dynamo=False,
        )
