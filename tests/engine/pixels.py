"""Where a network's cells lie, found by pixels: an independent check of ``engine.grid``.

A network is run with its own convolutions, pools, paddings and branches, but with other numbers:
each weight is positive and the same, activations let all through, gates are open, attention gives
nothing. Then what a cell says of images that get brighter towards the bottom is the mean row of
the pixels that it sees. No value of the network counts, so it can be made on the meta device, where
its parameters take no memory; that also tells them from what is computed of images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lcam_cli.engine.tokens import find_layout

_SLOPE = 1e-6


def centres(network: nn.Module, layer: str, side: int) -> tuple[Tensor, Tensor]:
    """The mean row and the mean column of the pixels that cells see.

    Args:
        network: On the meta device, in eval mode.
        layer: A layer's name; the output of its last call is meant.
        side: Of the images, pixels.

    Returns:
        (P, Q) each, float64.
    """
    row = (torch.arange(side).double() / side).view(1, -1, 1).expand(3, side, side)
    # Small changes: products of what is computed of images, as in gates, are linear in no others.
    changes = torch.stack([torch.zeros_like(row), row, row.mT, torch.ones_like(row)])
    pictures = 1 + _SLOPE * changes
    caught: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda _m, _given, output: caught.append(output)
    )
    try:
        with torch.no_grad(), _Plain():
            network.double()(pictures)
    finally:
        handle.remove()
    output = caught[-1]
    layout = find_layout(output[:1])
    assert layout is not None
    maps = layout.to_maps(output).mean(1)
    rows, columns, ones = maps[1:] - maps[0]
    return side * rows / ones, side * columns / ones


class _Plain(TorchDispatchMode):
    """Lets operations compute with other numbers, and leaves where these come from as it is."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)]
        if not any(t.device.type == "cpu" and t.dtype is torch.double for t in tensors):
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        rule = _RULES.get(name.rstrip("_"))
        if rule is not None:
            found = rule(*args, **kwargs)
            if name.endswith("_") and not name.startswith("__"):
                return args[0].copy_(found)
            return found
        # A parameter scales nothing and adds nothing.
        neutral = torch.ones if name.rstrip("_") in ("mul", "div") else torch.zeros
        args, kwargs = tree_map(
            lambda v: (
                neutral(v.shape, dtype=torch.double if v.is_floating_point() else v.dtype)
                if torch.is_tensor(v) and v.device.type == "meta"
                else v
            ),
            (args, kwargs),
        )
        return func(*args, **kwargs)


def _same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x.clone()


def _open(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.ones_like(x)


def _normed(x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
    # By one number for all images: what is large stays finite.
    return x / x.abs().mean().clamp_min(1e-12), x.new_ones(1), x.new_ones(1)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    kernel = list(weight.shape[2:])
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    one = torch.ones(1, 1, *kernel, dtype=x.dtype) / weight[0, 0].numel()
    x = x.mean(1, keepdim=True)
    if transposed or len(kernel) == 1:
        found = torch.ops.aten.convolution(
            x, one, None, stride, padding, dilation, transposed, output_padding, 1
        )
    else:
        for dim, p in zip((-2, -1), padding, strict=True):
            x = _extended(x, dim, p, p)
        found = functional.conv2d(x, one, stride=stride, dilation=dilation)
    return found.expand(-1, channels, *found.shape[2:]).contiguous()


def _average_pool(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), ceil: bool = False, *_: Any
) -> Tensor:
    size = functional.avg_pool2d(x.to("meta"), kernel, stride or None, padding, ceil).shape
    for dim in (-2, -1):
        k, s, p = (setting[dim % len(setting)] for setting in (kernel, stride or kernel, padding))
        behind = (size[dim] - 1) * s + k - p - x.shape[dim]
        x = _extended(x, dim, p, behind)
    return functional.avg_pool2d(x, kernel, stride or None)


def _max_pool(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = 1, *more: Any
) -> tuple[Tensor, Tensor]:
    assert dilation in (1, [1, 1])
    found = _average_pool(x, kernel, stride, padding, *more)
    return found, torch.zeros_like(found, dtype=torch.long)


def _pad(x: Tensor, pad: Any, *_: Any) -> Tensor:
    for i in range(len(pad) // 2):
        x = _extended(x, -1 - i, pad[2 * i], pad[2 * i + 1])
    return x


def _extended(x: Tensor, dim: int, before: int, behind: int) -> Tensor:
    """More along an axis, as if brightness went on beyond the image's edge; or less."""
    n = x.shape[dim]
    if n == 1 or not (before or behind):
        return x if n > 1 else x.expand(*x.shape[:dim], 1 + before + behind, *x.shape[dim:][1:])
    steps = [torch.arange(max(before, 0), 0, -1), torch.arange(1, max(behind, 0) + 1)]
    ends = [(x.narrow(dim, i, 1), x.narrow(dim, j, 1)) for i, j in ((0, 1), (n - 1, n - 2))]
    shape = [-1 if d == dim % x.ndim else 1 for d in range(x.ndim)]
    first, last = (
        end + (end - next_) * k.view(shape) for (end, next_), k in zip(ends, steps, strict=True)
    )
    whole = torch.cat([first, x, last], dim)
    start = max(-before, 0)
    return whole.narrow(dim, start, whole.shape[dim] - start - max(-behind, 0))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A linear layer, whose weight is a parameter, or attention."""
    size = (*a.shape[:-1], b.shape[-1])
    if b.device.type == "meta":
        return a.mean(-1, keepdim=True).expand(size).contiguous()
    if a.device.type == "meta":
        return b.mean(-2, keepdim=True).expand(size).contiguous()
    return a.new_zeros(size)


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    return q.new_zeros(*q.shape[:-1], v.shape[-1]), q.new_zeros(q.shape[:-1])


def _spread(x: Tensor, dim: Any = None, *_: Any, keepdim: bool = False, **__: Any) -> Tensor:
    return torch.ones_like(x.mean(dim, keepdim))


_RULES: dict[str, Callable[..., Any]] = {
    name: rule
    for names, rule in {
        "relu hardtanh hardswish silu gelu elu celu leaky_relu mish _prelu_kernel": _same,
        "softplus clamp clamp_min native_dropout": _same,
        "sigmoid hardsigmoid tanh _softmax _safe_softmax": _open,
        "native_batch_norm _native_batch_norm_legit_no_training _batch_norm_no_update": _normed,
        "native_layer_norm native_group_norm": _normed,
        "convolution": _convolution,
        "avg_pool2d": _average_pool,
        "max_pool2d_with_indices": _max_pool,
        "constant_pad_nd reflection_pad2d replication_pad2d": _pad,
        "mm bmm": _product,
        "addmm baddbmm": lambda _bias, a, b, **_: _product(a, b),
        "_scaled_dot_product_flash_attention_for_cpu": _attention,
        "var": _spread,
        "linalg_vector_norm": lambda x, _ord, dim, keep=False, **_: _spread(x, dim, keepdim=keep),
    }.items()
    for name in names.split()
}
