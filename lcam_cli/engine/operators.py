"""The functions that an exported program may call: arithmetic on tensors, and nothing else.

PyTorch has others that read and write files, run code or reach other machines, so this is a list of
what is known to be harmless, not of what is not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

ATEN = "torch.ops.aten."

# What classifiers are made of. With a trailing underscore: in place.
_ACTIVATIONS = """
    relu relu_ relu6 hardtanh hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ silu silu_
    gelu sigmoid sigmoid_ tanh tanh_ leaky_relu leaky_relu_ elu elu_ softplus mish mish_ prelu
    softmax.int _softmax log_softmax.int
"""
_LAYERS = """
    conv2d conv2d.padding convolution linear addmm mm bmm matmul batch_norm
    _native_batch_norm_legit_no_training layer_norm native_layer_norm group_norm native_group_norm
    scaled_dot_product_attention max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d
    _adaptive_avg_pool2d adaptive_max_pool2d
"""
_ARITHMETIC = """
    add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor sub.Scalar rsub.Scalar mul.Tensor
    mul.Scalar mul_.Tensor mul_.Scalar div.Tensor div.Scalar div_.Tensor div_.Scalar neg
    pow.Tensor_Scalar square sqrt rsqrt exp log abs clamp clamp_ clamp_min clamp_max maximum minimum
    eq.Scalar ne.Scalar gt.Scalar lt.Scalar where.self where.ScalarSelf masked_fill.Scalar mean
    mean.dim sum sum.dim_IntList amax amin std.correction var.correction linalg_vector_norm cumsum
"""
_SHAPES = """
    view _unsafe_view reshape flatten.using_ints unflatten.int permute transpose.int t unsqueeze
    squeeze squeeze.dim squeeze.dims expand repeat cat stack split.Tensor split_with_sizes chunk
    unbind.int slice.Tensor select.int narrow index.Tensor roll flip pad constant_pad_nd contiguous
    clone alias detach detach_ lift_fresh_copy to.dtype to.dtype_layout to.device _to_copy type_as
    channel_shuffle upsample_bilinear2d.vec upsample_nearest2d.vec movedim.int zeros ones full
    arange arange.start arange.start_step scalar_tensor zeros_like ones_like full_like new_zeros
    new_ones new_full fill_.Scalar
"""
_ALLOWED = {
    ATEN + (name if "." in name else f"{name}.default")
    for name in (_ACTIVATIONS + _LAYERS + _ARITHMETIC + _SHAPES).split()
}


def _size(tensor: torch.Tensor, axis: int) -> int:
    return tensor.size(axis)


# These work on sizes, which are whole numbers.
_ON_SIZES: dict[str, Callable[..., Any]] = {
    f"_operator.{f.__name__}": f
    for f in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)
}
_ON_SIZES[ATEN + "sym_size.int"] = _size


def changes_in_place(function: object) -> bool:
    """Whether a function of PyTorch's own changes what it is given."""
    return isinstance(function, torch._ops.OpOverload) and function._schema.is_mutable


def find_function(target: str) -> Callable[..., Any] | None:
    """The function that a program calls ``target``; None where it is not on the list."""
    if target in _ON_SIZES:
        return _ON_SIZES[target]
    if target not in _ALLOWED:
        return None
    operation, _, overload = target.removeprefix(ATEN).partition(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, operation), overload)
    return found
