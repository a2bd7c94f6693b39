"""Operators that ``torch.onnx`` cannot translate, or not for sizes that stay open.

Each function is a symbolic function of ``torch.onnx``: it gets the graph and the
arguments of PyTorch's operator, and adds operators of ONNX.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.onnx import (
    register_custom_op_symbolic,
    symbolic_helper,
    unregister_custom_op_symbolic,
)

OPSET = 18

Graph = Any  # torch.onnx's; its classes are not public
Value = torch._C.Value


def adaptive_avg_pool2d(g: Graph, x: Value, output_size: Value) -> Value:
    """Means of a grid of cells: ``A @ x @ B'`` with one averaging matrix per side.

    ONNX has no such operator, and a pooling with a window only serves maps that
    divide.
    """
    shape = g.op("Shape", x)
    rows, columns = _numbers(g, output_size)
    vertical = _averages(g, rows, _item(g, shape, 2))
    horizontal = _averages(g, columns, _item(g, shape, 3))
    horizontal = g.op("Transpose", horizontal, perm_i=[1, 0])
    return _open(g.op("MatMul", g.op("MatMul", vertical, x), horizontal), x, 4)


def _numbers(g: Graph, sizes: Value) -> list[Value]:
    """The numbers of a list, each as a tensor of one element."""
    if symbolic_helper._is_packed_list(sizes):
        values = symbolic_helper._unpack_list(sizes)
    else:
        numbers = symbolic_helper._get_const(sizes, "is", "sizes")
        values = [_number(g, number) for number in numbers]
    one = _number(g, [1])
    return [g.op("Reshape", value, one) for value in values]


def _number(g: Graph, value: int | list[int]) -> Value:
    return g.op("Constant", value_t=torch.tensor(value))


def _item(g: Graph, shape: Value, axis: int) -> Value:
    return g.op("Gather", shape, _number(g, [axis]))


def _averages(g: Graph, cells: Value, side: Value) -> Value:
    """Matrix ``(cells, side)`` that averages the points of every cell.

    Cell ``i`` begins at ``floor(i * side / cells)`` and ends before
    ``ceil((i + 1) * side / cells)``; no number is negative, so integers that are
    divided round down.
    """
    one = _number(g, 1)
    cell = g.op("Unsqueeze", _range(g, cells), _number(g, [1]))  # (cells, 1)
    point = _range(g, side)
    start = g.op("Div", g.op("Mul", cell, side), cells)
    stop = g.op("Mul", g.op("Add", cell, one), side)
    stop = g.op("Div", g.op("Sub", g.op("Add", stop, cells), one), cells)
    inside = g.op(
        "And", g.op("GreaterOrEqual", point, start), g.op("Less", point, stop)
    )
    count = g.op("Cast", g.op("Sub", stop, start), to_i=_FLOAT)
    return g.op("Div", g.op("Cast", inside, to_i=_FLOAT), count)


def _range(g: Graph, stop: Value) -> Value:
    stop = g.op("Squeeze", stop, _number(g, [0]))
    return g.op("Range", _number(g, 0), stop, _number(g, 1))


def layer_norm(
    g: Graph,
    x: Value,
    normalized_shape: Value,
    weight: Value,
    bias: Value,
    eps: Value,
    cudnn: Value,
) -> Value:
    """LayerNorm whose sizes may be open; only their number matters."""
    if symbolic_helper._is_packed_list(normalized_shape):
        dims = len(symbolic_helper._unpack_list(normalized_shape))
    else:
        dims = len(symbolic_helper._get_const(normalized_shape, "is", "shape"))
    eps = symbolic_helper._get_const(eps, "f", "eps")
    like, rank = x, symbolic_helper._get_tensor_rank(x)
    if not symbolic_helper._is_none(weight):
        out = g.op("LayerNormalization", x, weight, bias, axis_i=-dims, epsilon_f=eps)
        return _open(out, x, rank)
    axes = _number(g, list(range(-dims, 0)))
    x = g.op("Sub", x, g.op("ReduceMean", x, axes))
    variance = g.op("ReduceMean", g.op("Mul", x, x), axes)
    small = g.op("Constant", value_t=torch.tensor(eps))
    out = g.op("Div", x, g.op("Sqrt", g.op("Add", variance, small)))
    return _open(out, like, rank)


def index_add(
    g: Graph, x: Value, dim: Value, index: Value, source: Value, alpha: Value = None
) -> Value:
    """Rows added up by index along the first dimension."""
    if symbolic_helper._get_const(dim, "i", "dim") != 0:
        raise ValueError("index_add is exported along the first dimension alone")
    rows = g.op("Unsqueeze", index, _number(g, [1]))
    out = g.op("ScatterND", x, rows, source, reduction_s="add")
    return _open(out, x, symbolic_helper._get_tensor_rank(x))


def unflatten(g: Graph, x: Value, dim: Value, sizes: Value) -> Value:
    """A dimension cut into two.

    The sizes of the traced image must not become those of the result, as PyTorch's
    own translation lets them.
    """
    rank = symbolic_helper._get_tensor_rank(x)
    dim = symbolic_helper._get_const(dim, "i", "dim") % rank
    shape = g.op("Shape", x)
    parts = _numbers(g, sizes)
    parts = [_item(g, shape, i) for i in range(dim)] + parts
    parts += [_item(g, shape, i) for i in range(dim + 1, rank)]
    out = g.op("Reshape", x, g.op("Concat", *parts, axis_i=0))
    return _open(out, x, len(parts))


def floor_divide(g: Graph, x: Value, divisor: Value) -> Value:
    """Sizes divided, downwards; ONNX divides integers towards zero.

    ``-(-size // parts)`` needs it. Sizes are integers and divisors positive.
    """
    quotient = g.op("Div", x, divisor)
    rest = g.op("Sub", x, g.op("Mul", quotient, divisor))
    below = g.op("Cast", g.op("Less", rest, _number(g, 0)), to_i=_INT64)
    return g.op("Sub", quotient, below)


def _open(out: Value, like: Value, rank: int) -> Value:
    """Say that the sizes of a result are not known."""
    out.setType(like.type().with_sizes([None] * rank))
    return out


_FLOAT = int(torch.onnx.TensorProtoDataType.FLOAT)
_INT64 = int(torch.onnx.TensorProtoDataType.INT64)
_SYMBOLICS: dict[str, Callable] = {
    f"aten::{function.__name__}": function
    for function in (
        adaptive_avg_pool2d,
        floor_divide,
        index_add,
        layer_norm,
        unflatten,
    )
}


@contextmanager
def project_symbolics() -> Iterator[None]:
    """Let ``torch.onnx`` use the functions of this module inside the block."""
    for name, function in _SYMBOLICS.items():
        register_custom_op_symbolic(name, function, OPSET)
    try:
        yield
    finally:
        for name in _SYMBOLICS:
            unregister_custom_op_symbolic(name, OPSET)
