"""Rollout, GAE and LeGrad as their authors' algorithms, written out slowly, of one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Pass:
    """What a plain forward pass over one image shows, with the graph of PyTorch.

    Attributes:
        logits: (R,).
        matrices: A block's attention, (heads, N, N) or (1, heads, N, N).
        tokens: What each block gives, (1, N, D).
        head: Logits (R,) of such tokens.
    """

    logits: Tensor
    matrices: list[Tensor]
    tokens: list[Tensor]
    head: Callable[[Tensor], Tensor]


def rollout(seen: Pass, _y: int) -> Tensor:
    """As in the authors' attention_rollout notebook: R (N, N)."""
    R = torch.eye(seen.matrices[0].shape[-1])
    for matrix in seen.matrices:
        mixed = torch.zeros_like(R)
        heads = matrix.flatten(0, -3)
        for head in heads:
            mixed = mixed + head / len(heads)
        mixed = mixed + torch.eye(len(R))
        for i in range(len(R)):
            mixed[i] = mixed[i] / mixed[i].sum()
        R = mixed @ R
    return R


def gae(seen: Pass, y: int) -> Tensor:
    """As in the authors' ViT notebook: R (N, N), less the I that it begins with."""
    R = torch.eye(seen.matrices[0].shape[-1])
    for matrix in seen.matrices:
        (g,) = torch.autograd.grad(seen.logits[y], matrix, retain_graph=True)
        cam = (g * matrix).clamp(min=0).flatten(0, -3).mean(0)
        R = R + cam @ R
    return R - torch.eye(len(R))


def legrad(seen: Pass, y: int) -> Tensor:
    """What each token counts, (N,), one block and its own score after the other."""
    total = torch.zeros(seen.matrices[0].shape[-1])
    for matrix, tokens in zip(seen.matrices, seen.tokens, strict=True):
        (g,) = torch.autograd.grad(seen.head(tokens)[y], matrix, retain_graph=True)
        heads = g.clamp(min=0).flatten(0, -3)
        for head in heads:
            total = total + head.mean(0) / len(heads)
    return total


def run_torchvision(network: Any, x: Tensor) -> Pass:
    """torchvision's ViT by its weights alone."""
    tokens = network.conv_proj(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([network.class_token, tokens], 1) + network.encoder.pos_embedding
    matrices, after = [], []
    for block in network.encoder.layers:
        own = block.self_attention
        q, k, v = nn.functional.linear(
            block.ln_1(tokens), own.in_proj_weight, own.in_proj_bias
        ).chunk(3, -1)
        mixed = []
        for part in zip(*(t.chunk(own.num_heads, -1) for t in (q, k, v)), strict=True):
            query, key, value = (t[0] for t in part)
            mixed.append((query @ key.T / query.shape[-1] ** 0.5, value))
        matrix = torch.stack([scores for scores, _ in mixed]).softmax(-1).requires_grad_()
        values = [m @ value for m, (_, value) in zip(matrix, mixed, strict=True)]
        tokens = tokens + own.out_proj(torch.cat(values, -1))[None]
        tokens = tokens + block.mlp(block.ln_2(tokens))
        matrices.append(matrix)
        after.append(tokens)

    def head(tokens: Tensor) -> Tensor:
        return network.heads(network.encoder.ln(tokens)[:, 0])[0]

    return Pass(head(tokens), matrices, after, head)
