"""The matrices of self-attention, softmax(q·kᵀ/√d + mask), while a network runs.

Fused kernels never write them down. So PyTorch's own attention is computed step by step meanwhile,
which changes logits by rounding alone. Attention that a network writes out itself is recognised: a
softmax that then multiplies values. Kernels of other packages, and what TorchScript runs, show
nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

_MULTI_HEAD = F.multi_head_attention_forward
_ARGUMENTS = inspect.signature(_MULTI_HEAD)

# What leaves the numbers of a matrix as they are, as far as attention goes.
_PASSES_ON = frozenset(
    {"dropout", "to", "type_as", "float", "half", "bfloat16"}
    | {"contiguous", "clone", "view", "reshape", "squeeze", "unsqueeze"}
)
_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm", "einsum"})


class AttentionMatrices(TorchFunctionMode):
    """While it is active, the matrices that multiply values are kept, in the order of the pass.

    Where gradients are recorded, a matrix that nothing before it gives one begins the graph: what
    lies below is not differentiated.

    Args:
        look: What to keep of a matrix (…, N, M), of whatever type the network computes in; default
            the matrix itself, which is a part of the graph.

    Attributes:
        kept: What was kept of each, one a call of attention.
    """

    def __init__(self, look: Callable[[Tensor], Tensor] = lambda matrix: matrix) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self._look = look
        # The softmax that each tensor was made of. Weak: most are not attention's.
        self._softmax_of: Any = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute PyTorch's attention step by step, and follow what a softmax gives."""
        kwargs = kwargs or {}
        if func is _MULTI_HEAD:
            return self._multi_head(*args, **kwargs)
        # That of an operation in an exported program is "softmax.int".
        name = str(getattr(func, "__name__", "")).partition(".")[0]
        if name == "scaled_dot_product_attention":
            return self._attend(*args, **kwargs)[0]
        output = func(*args, **kwargs)
        if name in ("softmax", "_softmax") and output.ndim > 2:
            self._softmax_of[output] = self._begin(output)
        elif name in _PRODUCTS or name in _PASSES_ON:
            given = filter(torch.is_tensor, tree_leaves((args, kwargs)))  # einsum may take a list
            for softmax in filter(torch.is_tensor, map(self._softmax_of.get, given)):
                if name in _PRODUCTS:
                    self._keep(softmax)
                elif torch.is_tensor(output):
                    self._softmax_of[output] = softmax
        return output

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """``scaled_dot_product_attention`` as its documentation has it, and the matrix."""
        if enable_gqa:
            heads = query.shape[-3]
            key, value = (t.repeat_interleave(heads // t.shape[-3], -3) for t in (key, value))
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
        if is_causal:
            attn_mask = torch.ones_like(scores, dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        # Fused kernels, too, take the softmax of half precision in float32.
        exact = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        matrix = self._begin(exact.softmax(-1))
        self._keep(matrix)
        weights = F.dropout(matrix, dropout_p) if dropout_p else matrix
        return weights.to(value.dtype) @ value, matrix

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """What ``nn.MultiheadAttention`` calls: PyTorch's own code, but with our attention in it.

        A mode is off while it handles a call, so nothing else would tell of what runs inside.
        """
        given = _ARGUMENTS.bind(*args, **kwargs)
        given.apply_defaults()
        needs_weights = given.arguments["need_weights"]
        given.arguments["need_weights"] = False  # those that it gives multiply nothing
        matrices = []

        def attend(*args: Any, **kwargs: Any) -> Tensor:
            output, matrix = self._attend(*args, **kwargs)
            matrices.append(matrix)
            return output

        own = F.scaled_dot_product_attention
        F.scaled_dot_product_attention = attend
        try:
            output, _ = _MULTI_HEAD(*given.args, **given.kwargs)
        finally:
            F.scaled_dot_product_attention = own
        if not needs_weights:
            return output, None
        weights = matrices[0].mean(1) if given.arguments["average_attn_weights"] else matrices[0]
        return output, weights if output.ndim == 3 else weights.squeeze(0)

    def _begin(self, matrix: Tensor) -> Tensor:
        """The matrix, with which a graph begins where none leads to it."""
        if torch.is_grad_enabled() and not matrix.requires_grad:
            matrix.requires_grad_()
        return matrix

    def _keep(self, matrix: Tensor) -> None:
        self.kept.append(self._look(matrix))
