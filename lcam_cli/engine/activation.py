"""What turns logits into scores: one class against the others, or every class by itself."""

from __future__ import annotations

from typing import Literal, cast, get_args

from torch import Tensor

from lcam_cli.errors import LcamError

Activation = Literal["softmax", "sigmoid", "none"]
"""``"softmax"``: an image has one class, and the scores sum to 1. ``"sigmoid"``: several classes,
or a single logit z, the one class of which scores σ(z). ``"none"``: what the network gives are
scores already."""


def check_activation(name: str) -> Activation:
    """Return ``name`` if it is one; files from strangers can say anything.

    Raises:
        LcamError: It is none.
    """
    if name not in get_args(Activation):
        raise LcamError(
            f"unknown activation {name!r}", f"use one of: {', '.join(get_args(Activation))}"
        )
    return cast(Activation, name)


def scoring(activation: Activation, probabilities: str) -> Activation:
    """What turns the plain classifier's logits into scores.

    Where its last step was taken off, that; then ``"none"`` means the same.
    """
    if activation == "none" and probabilities:
        return "sigmoid" if probabilities == "sigmoid" else "softmax"
    return activation


def class_scores(logits: Tensor, activation: Activation) -> Tensor:
    """Scores (B, R) of logits (B, R); in [0, 1] unless the network's own are others."""
    if activation == "none":
        return logits
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)


def confidence(logits: Tensor, classes: Tensor, activation: Activation) -> Tensor:
    """Scores (B,) of ``classes`` (B,) from logits (B, R)."""
    return class_scores(logits, activation).gather(1, classes.unsqueeze(1)).squeeze(1)
