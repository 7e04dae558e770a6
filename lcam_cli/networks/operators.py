"""The functions that an exported program may call: arithmetic on tensors, and nothing else.

PyTorch has others that read and write files, run code or reach other devices and machines. So a
function is allowed for what is known of it, never because nothing bad is known:

- its *name* stands below, or PyTorch itself tags it as pointwise (each number of the result comes
  from the numbers in the same place), or it is the in-place variant ``f_`` of such an ``f``;
- its *schema*, which PyTorch declares for each overload of a name, takes tensors, numbers and
  words, gives tensors, and changes nothing but, in place, its first argument.

Names are those of what a network calls. PyTorch's internal functions, which start with an
underscore or belong to the backward pass, check less of what they are given: they are allowed one
by one, never by their tag.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch

ATEN = "torch.ops.aten."

# What classifiers are made of, whether or not this PyTorch tags it.
_ACTIVATIONS = """
    relu relu6 hardtanh hardswish hardsigmoid silu gelu sigmoid tanh leaky_relu elu selu celu
    softplus softshrink hardshrink threshold mish prelu glu log_sigmoid softmax _softmax log_softmax
    _log_softmax
"""
_LAYERS = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
    linear bilinear addmm addbmm baddbmm addmv mm bmm mv dot matmul einsum tensordot outer inner
    batch_norm _native_batch_norm_legit_no_training instance_norm layer_norm native_layer_norm
    group_norm native_group_norm rms_norm _fused_rms_norm scaled_dot_product_attention
    max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    _adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle unfold im2col col2im
    upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa grid_sampler grid_sampler_2d affine_grid_generator embedding one_hot
    cosine_similarity pairwise_distance cdist lstm gru rnn_tanh rnn_relu
    fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2
"""
_ARITHMETIC = """
    add sub rsub mul div true_divide floor_divide remainder fmod neg pow square sqrt rsqrt
    reciprocal exp expm1 log log1p log2 log10 abs sign sgn sin cos tan asin acos atan atan2 sinh
    cosh erf floor ceil round trunc frac clamp clamp_min clamp_max clip maximum minimum lerp addcmul
    addcdiv nan_to_num logit logaddexp
    eq ne gt ge lt le isnan isinf isfinite logical_and logical_or logical_not logical_xor
    bitwise_and bitwise_or bitwise_not bitwise_xor __and__ __or__ __xor__
    where masked_fill fill zero copy
    mean sum prod amax amin aminmax max min argmax argmin any all std var std_mean var_mean norm
    linalg_norm linalg_vector_norm logsumexp cumsum cumprod logcumsumexp count_nonzero topk sort
    argsort
"""
_SHAPES = """
    view view_as _unsafe_view reshape reshape_as flatten unflatten ravel permute transpose t
    numpy_T mT adjoint swapaxes swapdims movedim moveaxis unsqueeze squeeze expand expand_as
    broadcast_to broadcast_tensors repeat repeat_interleave tile cat concat concatenate stack
    hstack vstack dstack column_stack split split_with_sizes tensor_split chunk unsafe_chunk
    unsafe_split unsafe_split_with_sizes unbind slice select narrow diagonal tril triu
    index index_select gather take_along_dim index_put index_add index_copy index_fill scatter
    scatter_add scatter_reduce masked_scatter slice_scatter select_scatter
    roll flip rot90 meshgrid atleast_1d atleast_2d atleast_3d
    pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
    contiguous clone alias detach lift_fresh lift_fresh_copy to _to_copy type_as
    real imag complex view_as_real view_as_complex conj resolve_conj resolve_neg
    zeros ones full arange linspace eye scalar_tensor zeros_like ones_like full_like new_zeros
    new_ones new_full
"""
_KNOWN = frozenset((_ACTIVATIONS + _LAYERS + _ARITHMETIC + _SHAPES).split())

# As PyTorch writes the types of a schema; each may also be optional, or a list.
_TAKEN = frozenset({"Tensor", "number", "int", "float", "bool", "str", "Device"})
_GIVEN = frozenset({"Tensor", "List[Tensor]"})


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
    """The function that a program calls ``target``; None where it is not known to be harmless."""
    if target in _ON_SIZES:
        return _ON_SIZES[target]
    named = re.fullmatch(re.escape(ATEN) + r"(\w+)\.(\w+)", target, re.ASCII)
    if named is None:
        return None
    function = getattr(_packet(named[1]), named[2], None)
    if not isinstance(function, torch._ops.OpOverload) or not _is_allowed(named[1], function):
        return None
    return function


def positional_names(function: Callable[..., Any]) -> list[str]:
    """The names, in order, of what a function of PyTorch's own takes without their names."""
    if not isinstance(function, torch._ops.OpOverload):
        return []
    return [argument.name for argument in function._schema.arguments if not argument.kwarg_only]


def takes_device(function: Callable[..., Any], name: str) -> bool:
    """Whether the argument of that name is a device."""
    return isinstance(function, torch._ops.OpOverload) and any(
        argument.name == name and _element(argument.type) == "Device"
        for argument in function._schema.arguments
    )


def _packet(name: str) -> Any:
    """All overloads of a name, an ``OpOverloadPacket``; None where PyTorch has none."""
    packet = getattr(torch.ops.aten, name, None)
    return packet if isinstance(packet, torch._ops.OpOverloadPacket) else None


def _is_allowed(name: str, function: torch._ops.OpOverload) -> bool:
    """Whether an overload of that name is arithmetic on tensors."""
    schema = function._schema
    in_place = name.endswith("_") and not name.endswith("__")
    changed = [i for i, a in enumerate(schema.arguments) if a.alias_info and a.alias_info.is_write]
    harmless = (
        all(_element(argument.type) in _TAKEN for argument in schema.arguments)
        and "..." not in str(schema)
        and len(schema.returns) > 0
        and all(str(result.type) in _GIVEN for result in schema.returns)
        and changed == ([0] if in_place else [])
    )
    base = name[:-1] if in_place else name
    return harmless and (base in _KNOWN or _is_pointwise(base))


def _element(of: object) -> str:
    """A schema's type, or what it is a list of; optional or not."""
    written = str(of)
    while match := re.fullmatch(r"(?:Optional|List)\[(.*)\]", written):
        written = match[1]
    return written


def _is_pointwise(name: str) -> bool:
    """Whether PyTorch tags a function of its public ones so, and it draws no random numbers."""
    packet = _packet(name)
    if packet is None or name.startswith("_") or "backward" in name:
        return False
    tags = {tag for overload in packet.overloads() for tag in getattr(packet, overload).tags}
    return torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags
