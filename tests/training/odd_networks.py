"""Classifiers that little or nothing can be learned from; own.py of a test imports them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.tiny import tiny_network


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Plus(nn.Module):
    """Adds a number to the first class."""

    def __init__(self, bonus: float) -> None:
        super().__init__()
        self.bonus = bonus

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + self.bonus, x[:, 1:]], 1)


class Parts(nn.Module):
    """Features, and the rest."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def _parts(classes: int = 4) -> tuple[nn.Sequential, nn.Sequential]:
    network = tiny_network(classes)
    assert isinstance(network, nn.Sequential)
    return network[:4], network[4:]


def one_logit() -> nn.Module:
    """A single class."""
    return tiny_network(1)


def always_sure() -> nn.Module:
    """Gives the first class a score of 1, whatever it sees."""
    features, head = _parts()
    return Parts(features, nn.Sequential(*head, Plus(1000.0)))


def of_one_class() -> nn.Module:
    """Gives the first class, and is not sure of it."""
    features, head = _parts()
    return Parts(features, nn.Sequential(*head, Plus(1.0)))


def nothing_between() -> nn.Module:
    """Scores of 0 and 1, which masks can change."""
    features, head = _parts()
    linear = head[-1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.mul_(1e30)
        linear.bias.zero_()
    return Parts(features, head)


def ignoring_head() -> nn.Module:
    """Scores that do not depend on the features: all weights of the head are 0."""
    features, head = _parts()
    nn.init.zeros_(head[-1].weight)
    return Parts(features, head)


def equal_rows() -> nn.Module:
    """One class that scores the only feature map: a row of one number."""
    return tiny_network(1, channels=1)


class PictureAlone(nn.Module):
    """Scores images beside its features, which it computes and throws away."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = _parts()
        self.beside = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.beside(x.mean((2, 3))) + 0 * self.head(self.features(x))
        return logits


def constant_features(value: float) -> nn.Module:
    """Feature maps of one value everywhere."""
    features, head = _parts()
    last = features[2]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, value)
    return Parts(features, head)


def flat_features() -> nn.Module:
    """Feature maps of 1 everywhere."""
    return constant_features(1.0)


def dead_features() -> nn.Module:
    """Feature maps of 0 everywhere."""
    return constant_features(-1.0)


def sized_features(size: float) -> nn.Module:
    """Features multiplied by a number, and divided by it again."""
    features, head = _parts()
    pooled, rest = head[:2], head[2:]
    return Parts(
        nn.Sequential(*features, Times(size)), nn.Sequential(*pooled, Times(1 / size), *rest)
    )


def huge_features() -> nn.Module:
    """Features whose squares are no numbers."""
    return sized_features(1e25)


def tiny_features() -> nn.Module:
    """Features whose squares are 0."""
    return sized_features(1e-25)
