"""Several layers in one forward pass: against the backbone's own split, and by hand."""

from __future__ import annotations

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.taps import tap
from lcam_cli.errors import LcamError
from tests.tiny import tiny_backbone

Y = torch.tensor([2, 0, 1])


def pictures() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_target_layer_is_what_the_engine_sees_there() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    seen = engine.forward(pictures())
    taps = tap(engine, pictures(), ["0", "3"], Y)
    torch.testing.assert_close(taps.logits, seen.logits)
    torch.testing.assert_close(taps.outputs["3"], seen.A)
    torch.testing.assert_close(taps.gradients["3"], engine.feature_gradients(seen, Y))


def test_a_layer_is_read_before_what_follows_changes_it_in_place() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    network, given = engine.backbone.network, engine.normalise(pictures())
    A = network[0](given).detach().requires_grad_()
    network[1:](A.clone()).gather(1, Y[:, None]).sum().backward()
    for layers in (["0"], ["0", "2"], ["0", "1", "3"]):
        taps = tap(engine, pictures(), layers, Y)
        assert (taps.outputs["0"] < 0).any(), "an in-place ReLU follows"
        torch.testing.assert_close(taps.outputs["0"], A.detach())
        torch.testing.assert_close(taps.gradients["0"], A.grad)


def test_nothing_below_the_lowest_layer_is_differentiated() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    below: list[bool] = []
    engine.backbone.network[1].register_forward_hook(
        lambda _m, _g, out: below.append(out.requires_grad)
    )
    taps = tap(engine, pictures().requires_grad_(False), ["2"], Y)
    assert below == [False]
    assert not taps.outputs["2"].requires_grad


def test_without_classes_there_are_no_gradients_and_halves_make_the_same() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    whole = tap(engine, pictures(), ["0", "3"], Y)
    engine.lower_limit(3)
    halved = tap(engine, pictures(), ["0", "3"], Y)
    for name in ("0", "3"):
        torch.testing.assert_close(halved.outputs[name], whole.outputs[name])
        torch.testing.assert_close(halved.gradients[name], whole.gradients[name])
    plain = tap(engine, pictures(), ["3"])
    assert plain.gradients == {}
    torch.testing.assert_close(plain.outputs["3"], whole.outputs["3"])


def test_half_precision_gives_floats() -> None:
    engine = Engine(tiny_backbone(), device="cpu", precision="bf16")
    taps = tap(engine, pictures(), ["0"], Y)
    assert {t.dtype for t in (taps.logits, taps.outputs["0"], taps.gradients["0"])} == {
        torch.float32
    }


def test_layers_that_are_none() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    with pytest.raises(LcamError, match="nope"):
        tap(engine, pictures(), ["nope"])
    with pytest.raises(LcamError, match="no feature maps"):
        tap(engine, pictures(), ["6"])
    assert not any(m._forward_hooks for m in engine.backbone.network.modules())
