"""The loss, term by term: those of L-CAM (Eq. 6-8), and the relative drop of the score.

λ1·TV(S) + λ2·AV(S) + λ3·CE(y, f(masked)) + λ_drop·drop, where S is the map the image was masked
with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.activation import Activation, confidence
from lcam_cli.engine.engine import Forward
from lcam_cli.training.recipes import Recipe


@dataclass(frozen=True)
class MaskedBatch:
    """What a term of the loss is computed from.

    Attributes:
        forward: The images as they are, B of them: features, logits and what the scores are.
        y: Their labels, (B,), int64.
        S: The maps they were masked with, (B, P, Q) in [0, 1], or those of more pairs.
        logits: f of the masked images, (B, R).
    """

    forward: Forward
    y: Tensor
    S: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Term:
    """A term of the loss. Its weight is the recipe's ``lambda_`` and the term's name.

    Attributes:
        label: What figures call it.
        value: Computes it, a scalar with gradients.
    """

    label: str
    value: Callable[[MaskedBatch, Recipe], Tensor]


@dataclass
class Loss:
    """The weighted sum of the terms, and the terms by name, before their λ; each a scalar."""

    total: Tensor
    terms: dict[str, Tensor]


def weighted_loss(masked: MaskedBatch, recipe: Recipe) -> Loss:
    """λ1·TV(S) + λ2·AV(S) + λ3·CE(y, logits) + …, with the recipe's λ: all :data:`TERMS`."""
    terms = {name: term.value(masked, recipe) for name, term in TERMS.items()}
    weighted = [getattr(recipe, f"lambda_{name}") * value for name, value in terms.items()]
    return Loss(functools.reduce(torch.add, weighted), terms)


def average(S: Tensor, lambda4: float, epsilon: float = 0.0) -> Tensor:
    """AV (Eq. 7): the mean of S^λ4 over all positions and maps.

    Args:
        S: Maps in [0, 1], (B, P, Q).
        lambda4: Exponent λ4; below 1 it presses on small values.
        epsilon: Added to S before the power, as the authors' code does: at S = 0 the gradient of
            a root is infinite.
    """
    return (S + epsilon).pow(lambda4).mean()


def total_variation(S: Tensor, batch: int) -> Tensor:
    """TV (Eq. 8): squared differences of neighbours, summed over a map, averaged over the batch.

    Args:
        S: Maps, (B, P, Q).
        batch: Images in the batch, the divisor: B, unless there is a map for every pair.
    """
    down = (S[:, 1:] - S[:, :-1]).square().sum()
    across = (S[:, :, 1:] - S[:, :, :-1]).square().sum()
    return (down + across) / batch


def border_energy(S: Tensor, batch: int) -> Tensor:
    """Sum of squares of the four borders of (B, P, Q), averaged over the batch.

    The authors' code adds 0.3 of it to TV; the paper does not have it.
    """
    edges = S[:, 0], S[:, -1], S[:, :, 0], S[:, :, -1]
    return torch.stack([e.square().sum() for e in edges]).sum() / batch


def reference_total_variation(S: Tensor, batch: int) -> Tensor:
    """TV as the authors' code has it: with 0.3 of the border's energy, and halved."""
    return (total_variation(S, batch) + 0.3 * border_energy(S, batch)) / 2


def cross_entropy(logits: Tensor, y: Tensor, activation: Activation = "softmax") -> Tensor:
    """CE (Eq. 6): −log score of the model-truth label, averaged over the batch.

    With sigmoid scores that is the binary cross-entropy of the label's own logit, −log σ(z_y):
    what the other classes score is left free.

    Args:
        logits: f of the masked images, (B, R).
        y: Labels, (B,), int64.
        activation: What turns logits into scores.
    """
    if activation == "none":  # scores already
        scores = logits.gather(1, y.unsqueeze(1)).clamp(min=torch.finfo(logits.dtype).tiny)
        return -scores.log().mean()
    if activation == "sigmoid":
        return F.softplus(-logits.gather(1, y.unsqueeze(1))).mean()
    return F.cross_entropy(logits, y)


def relative_drop(masked: MaskedBatch) -> Tensor:
    """Average of max(0, f − p)/f: the share of the score that the mask costs, as AD counts it.

    f is the score of the label on the image, p on the masked one. Of scores in [0, 1] the loss is
    in [0, 1] however sure the classifier is, while CE of a sure one is nearly 0 from the start.

    An image whose score is 0 has nothing to lose: its drop is 0, and it teaches nothing.
    """
    f = masked.forward.confidence(masked.y)
    p = confidence(masked.logits, masked.y, masked.forward.activation)
    scores = f >= torch.finfo(f.dtype).tiny
    # No 0/0 even where it is not taken: its gradient would be NaN.
    drop = (f - p).clamp_min(0) / torch.where(scores, f, 1)
    return torch.where(scores, drop, 0).mean()


def _variation_of(masked: MaskedBatch, recipe: Recipe) -> Tensor:
    variation = reference_total_variation if recipe.border_tv else total_variation
    return variation(masked.S, len(masked.y))


TERMS: dict[str, Term] = {
    "tv": Term("TV (Eq. 8)", _variation_of),
    "av": Term("AV (Eq. 7)", lambda m, r: average(m.S, r.lambda4, r.av_epsilon)),
    "ce": Term("CE", lambda m, _: cross_entropy(m.logits, m.y, m.forward.activation)),
    "drop": Term("drop of the score", lambda m, _: relative_drop(m)),
}
"""The terms, in the order of the columns of ``log.csv``."""
