"""Training BLA and BLA-T: the loss by hand, the labels, and what cannot be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import load_attention
from lcam_cli.training.loop import TrainingSettings, train
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.step import backward
from lcam_cli.training.trained_head import start
from tests.tiny import tiny_backbone, write_pictures


@pytest.mark.parametrize("kind", ["bla-head", "bla-t-head"])
@pytest.mark.parametrize("given", [False, True])
def test_the_loss_and_its_gradient_position_by_position(kind: str, given: bool) -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = engine.forward(x)
    module = start(kind, engine.backbone, [seen.A], seed=3)
    labels = torch.tensor([3, 0, 2]) if given else None
    terms = backward(engine, module, x, recipe_for("auto", "tiny", kind), kind, labels)
    own = engine.backbone.network[6]
    W, b = own.weight.clone().requires_grad_(True), own.bias.clone().requires_grad_(True)
    v = (module.logits.v / module.logits.scale).detach()
    total = torch.zeros(())
    for A, y in zip(seen.A, labels if given else seen.predicted, strict=True):
        P, Q = A.shape[1:]
        places = [(p, q) for p in range(P) for q in range(Q)]
        shares = torch.stack(
            [torch.exp(-0.1 * (v @ A[:, p, q] + 1).clamp_min(0)) for p, q in places]
        )
        shares = shares / shares.sum()
        a = (shares - 0.98 / (P * Q)).clamp_min(0) if kind == "bla-t-head" else shares
        u = sum(a[i] * A[:, p, q] for i, (p, q) in enumerate(places))
        total = total + F.cross_entropy(W @ u + b, y) / 3
    total.backward()
    assert float(terms["loss"]) == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(module.W.grad, W.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(module.b.grad, b.grad, rtol=1e-4, atol=1e-6)
    assert module.logits.v.grad.abs().sum() > 0


def test_a_head_learns_the_labels_it_is_given(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 8)
    engine = Engine(tiny_backbone(), device="cpu")
    recipe = recipe_for("auto", "tiny", "bla-head")
    settings = TrainingSettings(
        "bla-head",
        replace(recipe, batch_size=4, lr_W=3.0),
        labels=(2,) * 8,
    )
    file = train(engine, paths, tmp_path, settings)
    assert file is not None
    learned = load_attention(file).attention
    own = engine.backbone.network[6].bias
    gained = learned.b - own
    assert int(gained.argmax()) == 2
    assert gained[2] > 0
    assert (gained[[0, 1, 3]] < 0).all()


def test_a_run_with_other_labels_is_not_continued(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "pictures", 4)
    recipe = recipe_for("auto", "tiny", "bla-head")

    def run(label: int, **more: object) -> object:
        settings = TrainingSettings("bla-head", recipe, labels=(label,) * 4)
        fresh = Engine(tiny_backbone(), device="cpu")
        return train(fresh, paths, tmp_path, settings, stop=lambda: True, **more)

    assert run(1) is None
    with pytest.raises(LcamError, match="other settings or images"):
        run(2, resume=True)
    assert run(1, resume=True) is None


def test_a_head_that_is_not_pooling_and_one_linear_layer_says_so() -> None:
    other = load_backbone("squeezenet1_1", "none")
    with pytest.raises(LcamError, match=r"the head of squeezenet1_1 cannot be trained.*features"):
        start("bla-head", other, [], seed=0)
