"""Class scores read off the tokens of every block, by the network's own norm and head.

Bousselham et al.: LeGrad: An Explainability Method for Vision Transformers via Feature Formation
Sensitivity, ICCV 2025 (arXiv 2404.03214).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lcam_cli.engine.attention_matrices import AttentionMatrices
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.gradients import gradients_of_logits
from lcam_cli.engine.self_attention import SelfAttention, check_gradients, noise, tokens_of
from lcam_cli.errors import CannotExplainError


@contextlib.contextmanager
def head_on_every_block(network: nn.Module, blocks: Sequence[str]) -> Iterator[list[Tensor]]:
    """While it is active, the last block gives the tokens of all blocks, as one larger batch.

    So what follows it reads them all in one pass, and the network gives logits (L·B, R), those of
    the first block first. Each block is differentiated by itself: its input is detached.

    Args:
        network: The transformer.
        blocks: Names of the L blocks, in the order in which they run; of one, nothing changes.

    Yields:
        What each block was given and gave, (B, N, D), as it runs.
    """
    tokens: list[Tensor] = []
    passed: list[Tensor] = []

    def before(_module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        args, kwargs = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        passed.append(next(t for t in (*args, *kwargs.values()) if torch.is_tensor(t)))
        return args, kwargs

    def after(_module: nn.Module, _args: object, output: Any) -> Any:
        own = tokens_of(output)
        if own is None:
            raise TypeError("a block does not return a tensor")
        passed.append(own)
        tokens.append(own)
        if len(tokens) < len(blocks):
            return None
        every = torch.cat(tokens)
        return every if torch.is_tensor(output) else (every, *output[1:])

    with contextlib.ExitStack() as stack:
        for name in blocks if len(blocks) > 1 else ():
            module = network.get_submodule(name)
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
            stack.callback(module.register_forward_hook(after).remove)
        yield passed


def check_blocks(backbone: Backbone, attention: SelfAttention, method: str) -> None:
    """Check that the network's head can read the tokens of every block.

    Raises:
        CannotExplainError: Its blocks do not follow each other, what follows them does not take a
            larger batch than the image's, or scores have no gradient at a block's attention.
    """
    count = len(attention.calls)
    why = "" if attention.blocks or count == 1 else "are not separate modules"
    picture = noise(backbone)
    with torch.no_grad():
        whole = backbone(picture)
    with torch.enable_grad():
        try:
            with (
                AttentionMatrices() as matrices,
                head_on_every_block(backbone.network, attention.blocks) as passed,
            ):
                logits = backbone(picture)
        except Exception:  # what follows the blocks can fail in any way
            why = why or "return what its head accepts only for one batch"
        else:
            outputs, inputs = passed[1:-1:2], passed[2::2]
            follow = all(
                one.shape == other.shape and torch.equal(one, other)
                for one, other in zip(outputs, inputs, strict=True)
            )
            right = logits.shape == (count, whole.shape[1]) and _near(logits[-1:], whole)
            why = why or ("" if follow and right else "do not follow each other")
    if why:
        raise CannotExplainError(
            f"{method} reads the class score off every block; those of {backbone.identity.name} "
            + why,
            "use gae or rollout",
        )
    check_gradients(backbone, method, gradients_of_logits(logits, attention.of(matrices.kept)))


def _near(logits: Tensor, expected: Tensor) -> bool:
    """Whether logits are those expected but for what half precision rounds."""
    return bool((logits - expected).norm() <= 0.05 * expected.norm())
