"""The matrix product that runs as a convolution on a CPU."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from cluenet_mm.ops import linear

SHAPES = [
    (2, 14, 14, 8),  # 392 rows: 28 parts
    (1, 67, 89, 8),  # 67 parts
    (1, 1, 263, 8),  # a prime: no part
    (4, 4, 8),  # fewer rows than two for each part
    (32, 8),
    (8,),
    (0, 7, 7, 8),
    (64, 1),
]


def double(*shape, requires_grad=False):
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(*shape, generator=generator, dtype=torch.double)
    return x.requires_grad_(requires_grad)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_linear_of_pytorch(shape, bias):
    x, weight = double(*shape), double(6, shape[-1])
    bias = double(6) if bias else None
    out = linear(x, weight, bias)
    torch.testing.assert_close(out, F.linear(x, weight, bias))
    assert out.is_contiguous()


def test_it_takes_a_map_that_is_not_contiguous():
    x, weight = double(2, 8, 6, 4).permute(0, 2, 3, 1), double(5, 8)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


def test_its_first_and_second_derivatives():
    inputs = [double(*s, requires_grad=True) for s in ((2, 16, 3), (2, 3), (2,))]
    assert gradcheck(linear, inputs)
    assert gradgradcheck(linear, inputs)


def test_it_maps_over_a_batch():
    x, weight = double(3, 32, 4), double(5, 4)
    out = torch.func.vmap(linear, in_dims=(0, None))(x, weight)
    torch.testing.assert_close(out, F.linear(x, weight))


def test_one_thread_reaches_the_convolution_of_onednn():
    """From another shape PyTorch chooses a BLAS that is slower on some processors."""
    x, weight = torch.randn(2, 14, 14, 32), torch.randn(64, 32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.profiler.profile() as profile:
            linear(x, weight)
    finally:
        torch.set_num_threads(threads)
    assert "aten::mkldnn_convolution" in {event.key for event in profile.key_averages()}
