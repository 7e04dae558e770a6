"""A step against Eq. 3 to 8 written out, in both modes, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.training.recipes import Recipe, recipe_for
from lcam_cli.training.rows import FreeRows, SharedRows, classifier_rows, random_rows
from lcam_cli.training.step import Trainer, backward, loss_of
from tests.tiny import tiny_backbone

PAPER = recipe_for("paper", "resnet50")


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _written_out(
    engine: Engine, x: Tensor, W: Tensor, b: Tensor, recipe: Recipe, mode: str
) -> Tensor:
    """Eq. 6, one picture after the other, straight from the paper."""
    net = engine.backbone.network
    total = torch.zeros(())
    for X in x:
        A = net[:4](engine.normalise(X[None]))[0].clone()
        y = int(net(engine.normalise(X[None])).argmax())
        L = sum(W[y, k] * A[k] for k in range(len(A))) + b[y]  # Eq. 3
        S = torch.sigmoid(L)
        if mode == "fm":
            u = net[4:]((A * S)[None])  # Eq. 4
        else:
            theta = F.interpolate(S[None, None], (32, 32), mode="bilinear", align_corners=False)
            u = net(engine.normalise(X[None] * theta))  # Eq. 5
        P, Q = S.shape
        av = sum(S[p, q] ** recipe.lambda4 for p in range(P) for q in range(Q)) / (P * Q)
        tv = sum((S[p, q] - S[p, q + 1]) ** 2 for p in range(P) for q in range(Q - 1))
        tv = tv + sum((S[p, q] - S[p + 1, q]) ** 2 for p in range(P - 1) for q in range(Q))
        ce = -torch.log_softmax(u, 1)[0, y]
        total = total + recipe.lambda_tv * tv + recipe.lambda_av * av + recipe.lambda_ce * ce
    return total / len(x)


@pytest.mark.parametrize("mode", ["img", "fm"])
def test_the_loss_and_its_gradient_are_those_of_the_paper(
    engine: Engine, x: Tensor, mode: str
) -> None:
    W, b = random_rows(4, 6, seed=3)
    rows = FreeRows(W, b)
    terms = backward(engine, rows, x, PAPER, mode)
    W.requires_grad_(True)
    b.requires_grad_(True)
    expected = _written_out(engine, x, W, b, PAPER, mode)
    expected.backward()
    assert float(terms["loss"]) == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(rows.W.grad, W.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rows.b.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_reference_takes_masks_for_every_pair(engine: Engine, x: Tensor) -> None:
    recipe = recipe_for("reference", "resnet50")
    W, b = random_rows(4, 6, seed=3)
    loss = loss_of(engine, FreeRows(W, b), x, recipe, "img")
    net = engine.backbone.network
    A = net[:4](engine.normalise(x)).clone()
    y = net(engine.normalise(x)).argmax(1)
    maps = [torch.sigmoid(torch.einsum("k,kpq->pq", W[c], a) + b[c]) for a in A for c in y]
    assert len(maps) == 9
    av = torch.stack([((s + 0.0005) ** 0.3).mean() for s in maps]).mean()
    tv = sum(
        (s[1:] - s[:-1]).square().sum()
        + (s[:, 1:] - s[:, :-1]).square().sum()
        + 0.3 * sum(e.square().sum() for e in (s[0], s[-1], s[:, 0], s[:, -1]))
        for s in maps
    ) / (2 * len(x))
    assert float(loss.terms["av"]) == pytest.approx(float(av), rel=1e-5)
    assert float(loss.terms["tv"]) == pytest.approx(float(tv), rel=1e-5)


def test_a_step_in_parts_is_the_same_step(engine: Engine, x: Tensor) -> None:
    rows = FreeRows(*random_rows(4, 6, seed=3))
    whole = backward(engine, rows, x, PAPER, "img")
    gradient = rows.W.grad
    rows.W.grad = None
    engine.lower_limit(2)
    parts = backward(engine, rows, x, PAPER, "img")
    torch.testing.assert_close(rows.W.grad, gradient, rtol=1e-4, atol=1e-7)
    assert float(parts["loss"]) == pytest.approx(float(whole["loss"]), rel=1e-5)


def test_nothing_of_the_classifier_changes(engine: Engine, x: Tensor) -> None:
    before = {k: v.clone() for k, v in engine.backbone.network.state_dict().items()}
    rows = SharedRows(classifier_rows(engine, x), torch.ones(6))
    backward(engine, rows, x, replace(PAPER, mask="minmax"), "img")
    assert all(torch.equal(before[k], v) for k, v in engine.backbone.network.state_dict().items())
    assert all(p.grad is None for p in engine.backbone.network.parameters())


def test_the_classifiers_rows_are_its_linear_layer_or_its_gradients(
    engine: Engine, x: Tensor
) -> None:
    linear = engine.backbone.network[6].weight
    assert torch.equal(classifier_rows(engine, x), linear)
    # A head with a ReLU before its pooling is not linear in A; where A > 0 the gradient is
    # W / (P·Q), and it is 0 elsewhere.
    other = Engine(tiny_backbone(layer="2"), device="cpu")
    A = other.forward(x).A
    positive = (A > 0).float().mean((0, 2, 3))
    assert torch.allclose(classifier_rows(other, x), linear * positive / 64, rtol=1e-4, atol=1e-7)


def test_only_the_rows_of_a_batch_get_gradients(engine: Engine, x: Tensor) -> None:
    W, b = random_rows(4, 6, seed=3)
    seen = set(engine.forward(x).predicted.tolist())
    free, shared = FreeRows(W, b, sparse=True), SharedRows(W, torch.ones(6))
    backward(engine, free, x, PAPER, "img")
    backward(engine, shared, x, recipe_for("auto", "resnet50"), "img")
    for grad in (free.W.grad, shared.delta.grad):
        assert grad is not None
        assert grad.is_sparse
        assert set(grad.coalesce().indices()[0].tolist()) == seen


def test_a_sparse_step_is_the_dense_one(engine: Engine, x: Tensor) -> None:
    W, b = random_rows(4, 6, seed=3)
    ends = []
    for sparse in (False, True):
        rows = FreeRows(W, b, sparse=sparse)
        trainer = Trainer(engine, rows, PAPER, "img")
        for _ in range(3):
            trainer.step(x, 100.0)
        ends.append(rows.fold())
    assert not torch.equal(ends[0].W, W)
    torch.testing.assert_close(ends[1].W, ends[0].W, atol=1e-7, rtol=0)
    torch.testing.assert_close(ends[1].b, ends[0].b, atol=1e-7, rtol=0)
