"""Transformers of random parts, as people write them: for tests that hold every method to them."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 4
_DIM, _HEADS, _SIDE = 12, 2, 8

KERNELS = [
    *("fused", "multi head", "written", "einsum", "heads first", "merged", "transposed"),
    *("exponential", "mixed heads", "keys softmaxed"),
]
"""How attention is computed: of "heads first" the heads, not the images, come first."""

POOLS = ["class token", "class token", "patches", "everything", "both", "attention", "maximum"]
BREAKS = ["", "", "", "", "no grad", "detach", "frozen first block", "inference"]


class Attention(nn.Module):
    """Self-attention of tokens (B, N, D), by one kernel."""

    def __init__(self, kernel: str) -> None:
        super().__init__()
        self.kernel = kernel
        self.qkv, self.out = nn.Linear(_DIM, 3 * _DIM), nn.Linear(_DIM, _DIM)
        self.mix = nn.Linear(_HEADS, _HEADS)
        if kernel == "multi head":
            self.own = nn.MultiheadAttention(_DIM, _HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel == "multi head":
            return self.own(x, x, x, need_weights=False)[0]
        B, N, _ = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        q = 2 * q
        if self.kernel == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.kernel == "einsum":
            matrix = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
            mixed = torch.einsum("bhnm,bhmd->bhnd", matrix, v)
        elif self.kernel in ("merged", "heads first"):
            first = (lambda t: t.transpose(0, 1)) if self.kernel == "heads first" else (lambda t: t)
            q, k, v = (first(t).flatten(0, 1) for t in (q, k, v))
            mixed = first(
                (q @ k.mT).softmax(-1).bmm(v).view(*first(x.new_empty(B, _HEADS)).shape, N, -1)
            )
        elif self.kernel == "transposed":
            mixed = ((v.mT) @ (q @ k.mT).softmax(-1).mT).mT
        elif self.kernel == "exponential":
            weights = (q @ k.mT).clamp(max=20).exp()
            mixed = weights @ v / weights.sum(-1, keepdim=True)
        elif self.kernel == "mixed heads":
            weights = (q @ k.mT).softmax(-1)
            mixed = self.mix(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v
        elif self.kernel == "keys softmaxed":
            mixed = (k @ q.mT).softmax(-2).mT @ v
        else:
            mixed = (q @ k.mT / 2).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(B, N, -1))


class Block(nn.Module):
    """Attention and an MLP, each around a norm; in place or not, before or after it."""

    def __init__(self, draw: random.Random, kernel: str) -> None:
        super().__init__()
        self.attention = Attention(kernel)
        self.norms = nn.ModuleList(nn.LayerNorm(_DIM) for _ in range(2))
        self.mlp = nn.Sequential(
            nn.Linear(_DIM, 16),
            draw.choice([nn.GELU(), nn.ReLU(inplace=True)]),
            nn.Linear(16, _DIM),
        )
        self.after, self.in_place = draw.random() < 0.2, draw.random() < 0.2

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in zip(self.norms, (self.attention, self.mlp), strict=True):
            if self.after:
                x = norm(x + part(x))
            elif self.in_place:
                x = x + 0
                x += part(norm(x))
            else:
                x = x + part(norm(x))
        return x


class DrawnTransformer(nn.Module):
    """A transformer over 4×4 patches of 32×32 pixels; ``parts`` says what was drawn."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.kernel, self.pool = draw.choice(KERNELS), draw.choice(POOLS)
        self.breaks = draw.choice(BREAKS)
        self.channels = draw.choice([3, 3, 3, 1])
        least = self.pool in ("class token", "both")
        self.prefix = max(int(least), draw.choice([0, 1, 1, 2, 5]))
        self.inline = draw.random() < 0.2  # blocks that are no modules of their own
        self.patches = nn.Conv2d(self.channels, _DIM, _SIDE, _SIDE)
        self.tokens = nn.Parameter(torch.randn(1, self.prefix, _DIM))
        self.places = nn.Parameter(torch.randn(1, 16 + self.prefix, _DIM) / 3)
        self.blocks = nn.ModuleList(Block(draw, self.kernel) for _ in range(draw.randint(1, 3)))
        self.norm = nn.LayerNorm(_DIM) if draw.random() < 0.7 else nn.Identity()
        self.look = nn.Linear(_DIM, 1)
        self.head = nn.Linear(2 * _DIM if self.pool == "both" else _DIM, CLASSES)
        shape = f"{self.prefix}+16 tokens, {self.channels} channels, {len(self.blocks)} blocks"
        self.parts = f"{self.kernel}, {self.pool}, {self.breaks or 'whole'}, {shape}"

    def forward(self, x: Tensor) -> Tensor:
        if self.breaks == "inference":
            with torch.inference_mode():
                return self._logits(x)
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], 1) + self.places
        for i, block in enumerate(self.blocks):
            if self.breaks == "frozen first block" and i == 0:
                with torch.no_grad():
                    x = block(x)
            elif self.inline:
                x = x + block.attention(block.norms[0](x))
                x = x + block.mlp(block.norms[1](x))
            else:
                x = block(x)
            if self.breaks == "detach" and i == 0:
                x = x.detach()
        if self.breaks == "no grad":
            with torch.no_grad():
                return self._classify(self.norm(x))
        return self._classify(self.norm(x))

    def _classify(self, x: Tensor) -> Tensor:
        patches = x[:, self.prefix :]
        if self.pool == "class token":
            return self.head(x[:, 0])
        if self.pool == "both":
            return self.head(torch.cat([x[:, 0], patches.mean(1)], 1))
        if self.pool == "everything":
            return self.head(x.mean(1))
        if self.pool == "attention":
            return self.head((patches * self.look(patches).softmax(1)).sum(1))
        return self.head(patches.amax(1) if self.pool == "maximum" else patches.mean(1))


def drawn_transformer(seed: int) -> DrawnTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DrawnTransformer(seed).eval()
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.4)
    return network.requires_grad_(False)
