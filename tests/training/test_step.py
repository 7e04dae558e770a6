"""A step against Eq. 3 to 8 written out, in both modes, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.training.recipes import Mode, Recipe, recipe_for
from lcam_cli.training.rows import FreeRows, SharedRows, classifier_rows, gaussian, random_rows
from lcam_cli.training.step import Trainer, backward, loss_of
from tests.tiny import tiny_backbone, training_batch

PAPER = recipe_for("paper", "resnet50")
AUTO = recipe_for("auto", "resnet50")
DRAWN = torch.tensor([[0.1, 0.5], [0.8, 0.25], [0.95, 0.9]])
"""Of three images: ν% of the map whole, at their values, and all of it."""


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _written_out(
    engine: Engine, x: Tensor, W: Tensor, b: Tensor, recipe: Recipe, mode: str
) -> Tensor:
    """Eq. 6, one image after the other, straight from the paper."""
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


@pytest.fixture
def sure() -> Engine:
    """Of a classifier whose scores fall when something is hidden."""
    engine = Engine(tiny_backbone(), device="cpu")
    head = engine.backbone.network[6]
    with torch.no_grad():
        head.weight.mul_(30)
        head.bias.zero_()
    return engine


def _auto_rows() -> SharedRows:
    """Rows and a kernel that have left their start."""
    generator = torch.Generator().manual_seed(6)
    W0 = torch.randn(4, 6, generator=generator)
    rows = SharedRows(W0, torch.rand(6, generator=generator) + 0.5, 5)
    with torch.no_grad():
        rows.c += 0.5
        rows.w_shared.normal_(0, 0.05, generator=generator)
        rows.delta.normal_(0, 0.05, generator=generator)
        assert rows.kernel is not None
        rows.kernel += 0.05 * torch.randn(5, 5, generator=generator)
    return rows


def _auto_written_out(
    engine: Engine, x: Tensor, W: Tensor, kernel: Tensor, mode: Mode, draws: Tensor
) -> Tensor:
    """The loss of recipe ``auto``, one image after the other."""
    net = engine.backbone.network
    total = torch.zeros(())
    for X, (what, u) in zip(x, draws.tolist(), strict=True):
        A = net[:4](engine.normalise(X[None]))[0].clone()
        scores = net(engine.normalise(X[None]))[0].softmax(0)
        y = int(scores.argmax())
        L = sum(W[y, k] * A[k] for k in range(len(A)))
        P, Q = L.shape
        edges = [[min(max(i - 2, 0), n - 1) for i in range(n + 4)] for n in (P, Q)]
        around = L[edges[0]][:, edges[1]]  # two more rows and columns on each side
        L = sum(kernel[i, j] * around[i : i + P, j : j + Q] for i in range(5) for j in range(5))
        S = (L - L.min()) / (L.max() - L.min())
        if mode == "img":
            # The cells lie at pixels 0, 4, 8, …, 28; beyond the last the map is level.
            place = torch.arange(32).clamp(max=28) / 4
            weights = (1 - (place[:, None] - torch.arange(8)).abs()).clamp_min(0)
            S = weights @ S @ weights.T
        ranked = S.detach().flatten().sort(descending=True).values
        q = ranked[int((0.05 + 0.4 * u) * (len(ranked) - 1))]
        width = 0.3 * ranked.std()
        slope = torch.sigmoid((S.detach() - q) / width) * torch.sigmoid((q - S.detach()) / width)
        # q's value, with the gradient that keeps the area of the cut.
        mean = (slope * S).sum() / slope.sum()
        cut = torch.sigmoid((S - (q + mean - mean.detach())) / width)
        mask = cut if what < 0.7 else S * cut if what < 0.9 else S
        masked = (
            net(engine.normalise((X * mask)[None])) if mode == "img" else net[4:]((A * mask)[None])
        )
        f, p = scores[y].detach(), masked[0].softmax(0)[y]
        total = total + torch.relu(f - p) / f
    return total / len(x)


@pytest.mark.parametrize("mode", ["img", "fm"])
@pytest.mark.parametrize("pictures", [[0], [1], [2], [0, 1, 2]])
def test_the_loss_of_auto_and_its_gradient_written_out(
    sure: Engine, x: Tensor, mode: Mode, pictures: list[int]
) -> None:
    rows, x, draws = _auto_rows(), x[pictures], DRAWN[pictures]
    terms = backward(sure, rows, x, AUTO, mode, None, draws)
    again = _auto_rows()
    assert again.kernel is not None
    W = (again.c * again.W0 + again.w_shared + again.delta) / again.scale
    expected = _auto_written_out(sure, x, W, again.kernel, mode, draws)
    expected.backward()
    assert expected.item() > 0
    assert float(terms["loss"]) == float(terms["drop"])
    assert float(terms["loss"]) == pytest.approx(expected.item(), rel=1e-4)
    for name, parameter in rows.named_parameters():
        grad = parameter.grad
        assert grad is not None, name
        theirs = again.get_parameter(name).grad
        dense = grad.to_dense() if grad.is_sparse else grad
        torch.testing.assert_close(dense, theirs, rtol=2e-3, atol=1e-6)
    assert rows.kernel is not None
    assert rows.kernel.grad is not None
    assert rows.kernel.grad.abs().max() > 0


def test_auto_starts_at_the_classifiers_map_through_a_gaussian(engine: Engine, x: Tensor) -> None:
    W0 = classifier_rows(engine, x)
    rows, forward = SharedRows(W0, torch.full((6,), 2.0), 5), engine.forward(x)
    start, begun = rows.fold_start(), rows.fold()
    assert start.kernel is None
    assert begun.kernel is not None
    # exp(−(i² + j²)/2) for i and j from −2 to 2, summing to 1
    weights = [[math.exp(-(i * i + j * j) / 2) for j in range(-2, 3)] for i in range(-2, 3)]
    total = sum(map(sum, weights))
    torch.testing.assert_close(begun.kernel, torch.tensor(weights) / total)
    assert torch.equal(begun.W, start.W)
    factor = (start.W / W0).flatten()
    torch.testing.assert_close(factor, factor[:1].expand_as(factor))
    y = forward.predicted
    expected = torch.einsum("bk,bkpq->bpq", start.W[y], forward.A)
    torch.testing.assert_close(start(forward.A, y), expected)
    padded = F.pad(expected[:, None], (2, 2, 2, 2), mode="replicate")
    blurred = F.conv2d(padded, gaussian(5)[None, None])[:, 0]
    torch.testing.assert_close(begun(forward.A, y), blurred)


def test_everything_that_auto_learns_is_moved(sure: Engine, x: Tensor) -> None:
    rows = SharedRows(classifier_rows(sure, x), torch.ones(6), AUTO.kernel)
    before = {name: p.detach().clone() for name, p in rows.named_parameters()}
    assert before.keys() == {"c", "w_shared", "delta", "kernel"}
    trainer = Trainer(sure, rows, AUTO, "img")
    # Adam's first step is the learning rate, whatever the gradient's size.
    _, values = trainer.step(x, 0.5, None, DRAWN)
    assert values["drop"] > 0
    for name, factor in (("w_shared", 1), ("kernel", 2)):
        moved = (rows.get_parameter(name).detach() - before[name]).abs().max()
        assert float(moved) == pytest.approx(0.5 * AUTO.lr * factor, rel=1e-2), name
    # No factor of L changes a map: of c's gradient there is little more than rounding.
    assert 0 < float((rows.c.detach() - 1).abs()) <= 0.5 * AUTO.lr * 3 * 1.01
    grad = rows.delta.grad
    assert grad is not None
    expected = before["delta"] - 0.5 * AUTO.lr_delta * grad.to_dense()
    torch.testing.assert_close(rows.delta.detach(), expected)


def test_reference_takes_masks_for_every_pair(engine: Engine, x: Tensor) -> None:
    recipe = recipe_for("reference", "resnet50")
    W, b = random_rows(4, 6, seed=3)
    loss = loss_of(engine, FreeRows(W, b), training_batch(engine, x), recipe, "img")
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
    assert loss.terms["av"].item() == pytest.approx(av.item(), rel=1e-5)
    assert loss.terms["tv"].item() == pytest.approx(tv.item(), rel=1e-5)


def test_a_step_in_parts_is_the_same_step(engine: Engine, x: Tensor) -> None:
    rows = FreeRows(*random_rows(4, 6, seed=3))
    whole = backward(engine, rows, x, PAPER, "img")
    gradient = rows.W.grad
    rows.W.grad = None
    engine.lower_limit(2)
    parts = backward(engine, rows, x, PAPER, "img")
    torch.testing.assert_close(rows.W.grad, gradient, rtol=1e-4, atol=1e-7)
    assert float(parts["loss"]) == pytest.approx(float(whole["loss"]), rel=1e-5)


@pytest.mark.parametrize("mode", ["img", "fm"])
def test_a_step_of_auto_in_parts_is_the_same_step(sure: Engine, x: Tensor, mode: Mode) -> None:
    """Each part has its own images' draws."""
    gradients, losses = [], []
    for limit in (32, 2, 1):
        rows = _auto_rows()
        sure.lower_limit(limit)
        losses.append(float(backward(sure, rows, x, AUTO, mode, None, DRAWN)["loss"]))
        found = {name: p.grad for name, p in rows.named_parameters()}
        assert all(grad is not None for grad in found.values())
        gradients.append({n: g.to_dense() if g.is_sparse else g for n, g in found.items()})
    assert losses == pytest.approx(losses[:1] * 3, rel=1e-5)
    for part in gradients[1:]:
        for name, whole in gradients[0].items():
            torch.testing.assert_close(part[name], whole, rtol=1e-4, atol=1e-7)


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


@pytest.mark.parametrize("mode", ["img", "fm"])
def test_steps_of_auto_lower_what_parts_of_the_map_lose(
    sure: Engine, x: Tensor, mode: Mode
) -> None:
    rows = SharedRows(classifier_rows(sure, x), torch.ones(6), AUTO.kernel)
    generator = torch.Generator().manual_seed(0)
    fixed = torch.rand(40, len(x), 2, generator=generator)

    def loss() -> float:
        each = [backward(sure, rows, x, AUTO, mode, None, draws)["drop"] for draws in fixed]
        return torch.stack(each).mean().item()

    before = loss()
    trainer = Trainer(sure, rows, replace(AUTO, lr=0.01), mode)
    for _ in range(40):
        trainer.step(x, 1.0, None, torch.rand(len(x), 2, generator=generator))
    assert loss() < 0.9 * before
