"""Sigmoid scores by hand, and wherever a score counts."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.activation import check_activation, class_scores, confidence
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.measures.curves import STEPS, curve, pixel_ranks
from lcam_cli.networks.network import Network
from lcam_cli.training.losses import cross_entropy
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.rows import FreeRows, random_rows
from lcam_cli.training.step import loss_of
from tests.tiny import tiny_network, training_batch
from tests.transformers import own_backbone

LOGITS = torch.tensor([[0.0, math.log(3), -math.log(3)], [2.0, 0.0, 1.0]])


def test_sigmoid_scores_by_hand() -> None:
    assert class_scores(LOGITS[:1], "sigmoid")[0].tolist() == pytest.approx([0.5, 0.75, 0.25])
    assert class_scores(LOGITS[:1], "softmax")[0].tolist() == pytest.approx(
        [3 / 13, 9 / 13, 1 / 13]  # 1 : 3 : 1/3
    )
    y = torch.tensor([1, 1])
    assert confidence(LOGITS, y, "sigmoid").tolist() == pytest.approx([0.75, 0.5])


def test_the_loss_is_the_binary_cross_entropy_of_the_label() -> None:
    y = torch.tensor([1, 1])
    by_hand = (-math.log(0.75) - math.log(0.5)) / 2
    assert float(cross_entropy(LOGITS, y, "sigmoid")) == pytest.approx(by_hand)
    own = LOGITS.gather(1, y.unsqueeze(1))
    binary = nn.functional.binary_cross_entropy_with_logits(own, torch.ones_like(own))
    torch.testing.assert_close(cross_entropy(LOGITS, y, "sigmoid"), binary)
    # Far out, where σ is 0 in float32, it is still finite.
    far = torch.tensor([[-200.0, 0.0]])
    assert float(cross_entropy(far, torch.tensor([0]), "sigmoid")) == pytest.approx(200)


class _Sums(nn.Module):
    """R logits: the image's mean colours, times 4."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, classes, 1, bias=False)
        self.features.weight.data = 4 * torch.eye(classes, 3).view(classes, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean((2, 3))


def _engine(classes: int) -> Engine:
    plain = Preprocess(image_size=4, resize=4, mean=(0, 0, 0), std=(1, 1, 1))
    network = Network(_Sums(classes), "sums", "none", preprocess=plain)
    return Engine(Backbone(network, "features", activation="sigmoid"), device="cpu")


def _sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_masks_and_curves_are_scored_by_sigmoid() -> None:
    engine = _engine(3)
    x = torch.ones(1, 3, 4, 4)
    x[:, 1] = 0.5
    half = torch.zeros(1, 4, 4)
    half[:, :2] = 1
    y = torch.tensor([1])
    seen = engine.forward(x)
    assert seen.scores[0].tolist() == pytest.approx([_sigma(4), _sigma(2), _sigma(4)])
    assert float(seen.confidence(y)) == pytest.approx(_sigma(2))
    assert float(engine.masked_confidence(x, half, y)) == pytest.approx(_sigma(1))
    assert MaskedForwards(engine, x, y).scores([(0, half)]).tolist() == pytest.approx([_sigma(1)])
    ends = torch.tensor([[_sigma(2)], [_sigma(0)]])
    falling = curve(engine, x, torch.zeros_like(x), pixel_ranks(torch.rand(1, 4, 4)), y, ends)
    assert float(falling[STEPS // 2]) == pytest.approx(_sigma(1))


def test_a_single_logit_is_a_class_that_scores_sigma() -> None:
    engine = _engine(1)
    x = torch.full((2, 3, 4, 4), 0.25)
    x[1] = 0
    seen = engine.forward(x)
    assert seen.predicted.tolist() == [0, 0]
    assert seen.confidence(seen.predicted).tolist() == pytest.approx([_sigma(1), 0.5])


def test_a_single_logit_needs_sigmoid() -> None:
    with pytest.raises(LcamError, match="always 1") as caught:
        own_backbone(tiny_network(1), "3")
    assert "--activation sigmoid" in caught.value.hint


def test_other_names_are_refused() -> None:
    with pytest.raises(LcamError, match="unknown activation 'tanh'"):
        check_activation("tanh")
    with pytest.raises(LcamError, match="unknown activation"):
        own_backbone(tiny_network(), "3", activation="relu")


def test_the_label_is_the_argmax_either_way() -> None:
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    networks = [own_backbone(tiny_network(), "3", activation=a) for a in ("softmax", "sigmoid")]
    one, two = (Engine(network, device="cpu").forward(x) for network in networks)
    assert one.predicted.tolist() == two.predicted.tolist()
    scores = cast(np.ndarray, two.scores.numpy())
    assert scores.sum(1) != pytest.approx(1)


def test_training_takes_the_sigmoid_of_the_masked_pictures() -> None:
    engine = Engine(own_backbone(tiny_network(), "3", activation="sigmoid"), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    W, b = random_rows(4, 6, seed=3)
    recipe = recipe_for("paper", "resnet50")
    network = engine.backbone.network
    by_hand = 0.0
    for X in engine.normalise(x):
        A = network[:4](X[None])[0].clone()
        y = int(network(X[None]).argmax())
        S = torch.sigmoid((W[y, :, None, None] * A).sum(0) + b[y])  # Eq. 3
        u = network[4:]((A * S)[None])[0]  # Eq. 4
        by_hand -= math.log(_sigma(float(u[y]))) / 3
    loss = loss_of(engine, FreeRows(W, b), training_batch(engine, x), recipe, "fm")
    assert float(loss.terms["ce"].detach()) == pytest.approx(by_hand, rel=1e-5)
