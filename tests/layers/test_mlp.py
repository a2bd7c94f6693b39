"""An MLP computed in slices is the MLP."""

import pytest
import torch

from cluenet_mm.layers import MLP, ConvMLP, mlp

ROW_BYTES = 6 * 12 * 8  # columns, hidden channels, float64


@pytest.mark.parametrize("kind", [MLP, ConvMLP])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 11, 14])
def test_slices_change_nothing(kind, rows, monkeypatch):
    torch.manual_seed(0)
    module = kind(4, 12).double()
    x = torch.randn(3, 5, 6, 4, dtype=torch.float64)
    whole = module(x)  # with gradient there are no slices
    monkeypatch.setattr(mlp, "SLICE_BYTES", rows * ROW_BYTES)
    seen = []
    module.fc1.register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
    with torch.no_grad():
        torch.testing.assert_close(module(x), whole)
    # An image has five rows: one that fits is not sliced, and with it the whole batch.
    assert len(seen) == {0: 15, 1: 15, 2: 9, 3: 6}.get(rows, 1)
    if rows < 5:
        assert max(b * h for b, h, _, _ in seen) <= max(rows, 1) + 2 * module.halo


def test_training_is_not_sliced(monkeypatch):
    monkeypatch.setattr(mlp, "SLICE_BYTES", 0)
    module = ConvMLP(4, 12)
    seen = []
    module.fc1.register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
    module(torch.randn(3, 5, 6, 4))
    assert seen == [(3, 5, 6, 12)]
