"""Multiply-adds, the same whichever backend computes the attention."""

from collections.abc import Sequence
from typing import Any

from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn

# What fvcore counts besides products: small, and not what papers mean by the word.
_NOT_PRODUCTS = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::instance_norm",
    "aten::layer_norm",
    "aten::upsample_bilinear2d",
    "aten::upsample_nearest2d",
    "aten::adaptive_avg_pool2d",
    "aten::grid_sampler",
)


def count_multiply_adds(model: nn.Module, inputs: Tensor | Sequence[Any]) -> int:
    """Multiply-adds of convolutions, linear layers, matrix products and both of an attention.

    A multiply-add is two floating-point operations. The model is traced by fvcore, which calls it
    once, in the mode it is in.

    Args:
        model: any module, of detectron2 by parts (its detectors take dictionaries).
        inputs: its arguments.
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    counter = FlopCountAnalysis(model, arguments)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counter.tracer_warnings("none")
    counter.set_op_handle("aten::baddbmm", _added_product)
    counter.set_op_handle("aten::scaled_dot_product_attention", _attention)
    counter.set_op_handle("dnl_det::chunked_attention", _attention)
    for name in _NOT_PRODUCTS:
        counter.set_op_handle(name, _nothing)
    return int(counter.total())


def _added_product(inputs: list[Any], outputs: list[Any]) -> int:
    images, rows, inner = get_shape(inputs[1])
    return images * rows * inner * get_shape(inputs[2])[2]


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """``q k^T`` and ``P v``: N L S (D + E), whatever the leading dimensions."""
    *images, queries, channels = get_shape(inputs[0])
    keys, value_channels = get_shape(inputs[2])[-2:]
    count = queries * keys * (channels + value_channels)
    for size in images:
        count *= size
    return int(count)


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0
