"""An MLP computed in slices is the MLP."""

import pytest
import torch

from cluenet_mm.layers import MLP, ConvMLP, mlp

ROW_BYTES = 6 * 12 * 8  # columns, hidden channels, float64


def watched(kind, monkeypatch, rows):
    """A module, and the shapes that it sees where a slice may have so many rows."""
    torch.manual_seed(0)
    module = kind(4, 12).double()
    monkeypatch.setattr(mlp, "SLICE_BYTES", rows * ROW_BYTES)
    seen = []
    module.fc1.register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
    return module, seen


@pytest.mark.parametrize("kind", [MLP, ConvMLP])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 11, 14, 15])
def test_slices_change_nothing(kind, rows, monkeypatch):
    x = torch.randn(3, 5, 6, 4, dtype=torch.float64)
    module, seen = watched(kind, monkeypatch, rows)
    with torch.no_grad():
        whole = module._output(module.hidden(x))
        seen.clear()
        torch.testing.assert_close(module(x), whole)
    # An image has five rows: one that fits is not sliced, nor are several that do.
    assert len(seen) == {0: 15, 1: 15, 2: 9, 3: 6, 5: 3, 11: 2, 14: 2, 15: 1}[rows]
    if rows < 5:
        assert max(b * h for b, h, _, _ in seen) <= max(rows, 1) + 2 * module.halo


@pytest.mark.parametrize("kind", [MLP, ConvMLP])
@pytest.mark.parametrize(("rows", "images"), [(0, 1), (9, 1), (10, 2), (15, 3)])
def test_training_goes_by_images(kind, rows, images, monkeypatch):
    x = torch.randn(3, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    module, seen = watched(kind, monkeypatch, rows)
    results = []
    for run in (lambda x: module._output(module.hidden(x)), module):
        seen.clear()
        out = run(x)
        wanted = (x, *module.parameters())
        results.append((out, *torch.autograd.grad(out.square().sum(), wanted)))
    torch.testing.assert_close(*results)
    assert max(shape[0] for shape in seen) == images
    assert {tuple(shape[1:]) for shape in seen} == {(5, 6, 12)}


def test_a_recorded_graph_has_no_slices(monkeypatch):
    module, seen = watched(ConvMLP, monkeypatch, 0)
    with torch.no_grad():
        torch.export.export(module, (torch.randn(3, 5, 6, 4).double(),))
    assert {tuple(shape) for shape in seen} == {(3, 5, 6, 12)}


def test_an_empty_batch():
    assert ConvMLP(4, 12)(torch.randn(0, 5, 6, 4)).shape == (0, 5, 6, 4)
