"""Transformer methods: what attention over the patches says of each patch.

Att_l is the matrix of block l, (heads, N, N), rows for queries; N counts the tokens before the
patches too. Where the classifier reads the class token, its row is shown (of a class and a
distillation token, the mean of both rows); where it reads the patches, the mean over their rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.attention_matrices import AttentionMatrices
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.backward import forward_with_graph, go_back
from lcam_cli.engine.block_scores import check_blocks, head_on_every_block
from lcam_cli.engine.contrast import explained, near_classes
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.graph import Graph
from lcam_cli.engine.self_attention import SelfAttention, find_self_attention
from lcam_cli.methods.base import Maps


class _OfAttention:
    """A method that looks at attention: its first pass shows it.

    Args:
        backbone: The transformer.

    Raises:
        LcamError: Its attention over the patches is not seen.
    """

    name: str
    forward_passes = 1
    whole_graph = True
    _differentiates_matrices = False

    def __init__(self, backbone: Backbone) -> None:
        self._attention = find_self_attention(
            backbone, self.name, gradients=self._differentiates_matrices
        )
        self.params: dict[str, Any] = {"blocks": len(self._attention.calls)}

    def first_pass(self, engine: Engine, x: Tensor) -> Forward:
        """A forward pass that shows its attention."""
        return forward_with_graph(engine, x, partial(self._run, engine))

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """Where its first pass was not this method's own, another one."""

        def back(graph: Graph, classes: Tensor, near: Tensor) -> Tensor:
            count = len(classes)
            blocks = len(graph.logits) // count
            given = classes.repeat(blocks), near.repeat(blocks, 1)
            value = explained(graph.logits, *given, forward.contrast, engine.activation)
            return self._rows(engine, graph, value, count)

        run, x = partial(self._run, engine), forward.x
        near = near_classes(forward.contrast, classes)
        rows = go_back(engine, forward.graph, run, back, x, classes, near)
        return Maps.of_cam(self._attention.map_of(rows), forward)

    def _run(self, engine: Engine, x: Tensor) -> Graph:
        """A forward pass on pixels (B, C, H, W), and its blocks' matrices of attention."""
        with AttentionMatrices() as matrices:
            logits = engine.logits_with_gradients(x)
        return Graph(logits, self._attention.of(matrices.kept))

    def _rows(self, engine: Engine, graph: Graph, value: Tensor, count: int) -> Tensor:
        """How much each token counts, (B, N), for B images.

        Args:
            engine: The engine with the classifier.
            graph: Of :meth:`_run`.
            value: What is explained, (B,), or of each block, (L·B,), made of the graph's logits.
            count: B.
        """
        raise NotImplementedError


class Rollout(_OfAttention):
    """Attention rollout (Abnar & Zuidema, ACL 2020): R = Π_l rownorm(mean_heads Att_l + I).

    V = θ(ζ(the class token's row of R)). It explains the prediction as a whole, not a class.
    """

    name = "rollout"

    @torch.no_grad()
    def _run(self, engine: Engine, x: Tensor) -> Graph:
        with AttentionMatrices() as matrices:
            logits = engine.backbone(engine.normalise(x))
        return Graph(logits, self._attention.of(matrices.kept))

    def _rows(self, engine: Engine, graph: Graph, value: Tensor, count: int) -> Tensor:
        attention = self._attention
        found = attention.shaped(graph.starts, count)
        mixed = [matrix.mean(1) + _identity(matrix) for matrix in found]
        return _rows_of_product([step / step.sum(2, keepdim=True) for step in mixed], attention)


class Gae(_OfAttention):
    """Generic attention explainability (Chefer, Gur, Wolf, ICCV 2021), of self-attention.

    Ā_l = mean_heads ReLU(∂f_y/∂Att_l ⊙ Att_l), R ← R + Ā_l·R from R = I; V = θ(ζ(the class token's
    row of R − I)). Of the patches' rows I adds the same to each patch, and ζ would drop it. A
    backward pass goes down to the first block.
    """

    name = "gae"
    _differentiates_matrices = True

    def _rows(self, engine: Engine, graph: Graph, value: Tensor, count: int) -> Tensor:
        attention, made = self._attention, graph.starts
        products = [
            g * matrix.detach() for g, matrix in zip(graph.gradients(value), made, strict=True)
        ]
        scale = engine.backbone.gradient_scale
        A = [p.relu().mean(1) / scale for p in attention.shaped(products, count)]
        return _rows_of_sums(A, attention)


class LeGrad(_OfAttention):
    """LeGrad (Bousselham et al., ICCV 2025): gradients of every block's own class score.

    s_l is the class score read off the tokens of block l by the network's own norm and head;
    L = Σ_l mean over heads and queries of ReLU(∂s_l/∂Att_l), V = θ(ζ(L)). A short backward pass
    goes through each block.

    Args:
        backbone: The transformer.

    Raises:
        LcamError: Its attention over the patches is not seen, or its head cannot read each block.
    """

    name = "legrad"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        check_blocks(backbone, self._attention, self.name)

    def _run(self, engine: Engine, x: Tensor) -> Graph:
        with head_on_every_block(engine.backbone.network, self._attention.blocks):
            return super()._run(engine, x)

    def _rows(self, engine: Engine, graph: Graph, value: Tensor, count: int) -> Tensor:
        gradients = self._attention.shaped(graph.gradients(value), count)
        parts = [g.relu().mean((1, 2)) for g in gradients]
        return torch.stack(parts).sum(0) / engine.backbone.gradient_scale


def _identity(matrix: Tensor) -> Tensor:
    """I, (N, N)."""
    return torch.eye(matrix.shape[-1], device=matrix.device)


def _rows_of_product(steps: list[Tensor], attention: SelfAttention) -> Tensor:
    """The rows that the classifier reads, averaged, of M_L ··· M_1: (B, N) of L times (B, N, N).

    Row by row from the last block on: products of whole matrices would cost N times as much.
    """
    read = steps[-1][:, attention.read].mean(1, keepdim=True)
    for step in reversed(steps[:-1]):
        read = read @ step
    return read.squeeze(1)


def _rows_of_sums(sums: list[Tensor], attention: SelfAttention) -> Tensor:
    """The same of (I + A_L) ··· (I + A_1) − I.

    Without I, whose ones would swallow small gradients.
    """
    first = torch.zeros_like(sums[0][:, :1])
    first[:, :, attention.read] = 1 / len(attention.read)
    rest = torch.zeros_like(first)
    for A in reversed(sums):
        rest = rest + (first + rest) @ A
    return rest.squeeze(1)
