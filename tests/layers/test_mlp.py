"""An MLP computed in slices is the MLP."""

import pytest
import torch

from cluenet_mm.layers import MLP, ConvMLP, mlp

ROW_BYTES = 6 * 12 * 8  # columns, hidden channels, float64


def run(module, x, slice_bytes, monkeypatch):
    monkeypatch.setattr(mlp, "SLICE_BYTES", slice_bytes)
    x = x.clone().requires_grad_()
    module.zero_grad()
    out = module(x)
    out.square().sum().backward()
    return [out, x.grad, *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("kind", [MLP, ConvMLP])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 11, 14])
def test_slices_change_nothing(kind, rows, monkeypatch):
    torch.manual_seed(0)
    module = kind(4, 12).double()
    x = torch.randn(3, 5, 6, 4, dtype=torch.float64)
    whole = run(module, x, 1 << 40, monkeypatch)
    sliced = run(module, x, rows * ROW_BYTES, monkeypatch)
    for expected, actual in zip(whole, sliced, strict=True):
        torch.testing.assert_close(actual, expected)
    with torch.no_grad():
        torch.testing.assert_close(module(x), whole[0])


@pytest.mark.parametrize("rows", [2, 5])
def test_slices_do_not_keep_their_hidden_map(rows, monkeypatch):
    module = ConvMLP(4, 12).double()
    x = torch.randn(3, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    kept = []
    for slice_bytes in (1 << 40, rows * ROW_BYTES):
        monkeypatch.setattr(mlp, "SLICE_BYTES", slice_bytes)
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            module(x)
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0] / 3


@pytest.mark.parametrize("rows", [2, 5])
def test_dropout_is_the_same_when_a_slice_is_made_again(rows, monkeypatch):
    monkeypatch.setattr(mlp, "SLICE_BYTES", rows * ROW_BYTES)
    torch.manual_seed(0)
    module = ConvMLP(4, 12, drop_rate=0.5).double().train()

    def function(x):
        torch.manual_seed(1)
        return module(x)

    x = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
