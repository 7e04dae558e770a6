"""BLA's and L2X-F's loss against their equations written out."""

from __future__ import annotations

import math

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.training.bounded_logit import PositionLogitsModule, gumbel_selection
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.step import backward
from tests.tiny import tiny_backbone


@pytest.mark.parametrize("layer", ["3", "2"])
def test_the_loss_and_its_gradient_position_by_position(layer: str) -> None:
    """With a head that pools at once (the sum of the paper), and one that does not."""
    engine = Engine(tiny_backbone(layer=layer), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    s = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 3.0])
    module = PositionLogitsModule("bla", s, seed=3)
    terms = backward(engine, module, x, recipe_for("auto", "tiny", "bla"), "bla")
    v = module.v.detach().clone().requires_grad_(True)
    b = module.b.detach().clone().requires_grad_(True)
    net, cut = engine.backbone.network, int(layer) + 1
    total = torch.zeros(())
    for X in x:
        A = net[:cut](engine.normalise(X[None]))[0].clone()
        y = int(net(engine.normalise(X[None])).argmax())
        P, Q = A.shape[1:]
        places = [(p, q) for p in range(P) for q in range(Q)]
        logit = {(p, q): sum(v[k] / s[k] * A[k, p, q] for k in range(6)) + b for p, q in places}
        weight = {at: torch.exp(-0.1 * logit[at].clamp_min(0)) for at in places}
        sum_of_weights = sum(weight.values())
        a = {at: (weight[at] / sum_of_weights - 0.98 / (P * Q)).clamp_min(0) for at in places}
        if layer == "3":
            u = net[6](sum(a[p, q] * A[:, p, q] for p, q in places))
        else:
            shown = torch.stack([a[at] for at in places]).view(P, Q) * P * Q
            u = net[cut:]((A * shown)[None])[0]
        total = total - torch.log_softmax(u, 0)[y] / len(x)
    total.backward()
    assert float(terms["loss"]) == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(module.v.grad, v.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(module.b.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_drawn_positions_are_few_and_as_likely_as_their_logits_say() -> None:
    torch.manual_seed(4)
    logits = torch.tensor([[0.0, math.log(2.0)], [math.log(4.0), math.log(3.0)]])
    drawn = gumbel_selection(logits.expand(20000, 2, 2), k=1)
    torch.testing.assert_close(drawn.sum((1, 2)), torch.ones(20000))
    chosen = drawn.flatten(1).argmax(1).bincount(minlength=4) / 20000
    assert chosen.tolist() == pytest.approx([0.1, 0.2, 0.4, 0.3], abs=0.02)
    # Of many positions, 8 samples choose about 8.
    level = gumbel_selection(torch.zeros(2000, 30, 30))
    assert float((level > 0.05).float().sum((1, 2)).mean()) == pytest.approx(8, abs=0.5)


def test_the_fold_gives_the_logits_that_were_trained() -> None:
    module = PositionLogitsModule("l2x-f", torch.tensor([1.0, 4.0]), seed=1)
    A = torch.rand(2, 2, 3, 3)
    expected = torch.einsum("k,bkpq->bpq", module.v / module.scale, A) + 1
    torch.testing.assert_close(module.fold()(A), expected.detach())
    assert module.fold().kind == "l2x-f"
