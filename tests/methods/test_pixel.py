"""Pixel methods against captum, with the same draws, and where they are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.picture_gradients import picture_gradients
from lcam_cli.engine.shared import Shared
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.base import Method
from lcam_cli.methods.occlusion import Occlusion, patches
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.pixel import (
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from lcam_cli.methods.placing import layers_of_cells
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests.methods import oracles
from tests.methods.oracles import logits_of, zeta
from tests.tiny import tiny_backbone, tiny_network

Y = torch.tensor([0, 3, 1])


def engine_of(channels: int = 3, size: tuple[int, int] = (32, 32), batch_size: int = 32) -> Engine:
    """The tiny network for images of any size and number of channels, normalised unevenly."""
    network = tiny_network()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network[0] = nn.Conv2d(channels, 5, 3, stride=2, padding=1)
        # Another end than an average, and logits with scores to lose.
        network[4] = nn.AdaptiveMaxPool2d(2)
        network[6] = nn.Linear(24, 4)
        network[6].weight.data *= 20
    preprocess = Preprocess(
        image_size=size,
        resize=36,
        mean=tuple(0.3 + 0.1 * c for c in range(channels)),
        std=tuple(0.2 + 0.05 * c for c in range(channels)),
    )
    module = Network(network, "tiny", "none:seed=7", preprocess=preprocess)
    return Engine(Backbone(module, "3"), device="cpu", batch_size=batch_size)


def pictures(engine: Engine) -> Tensor:
    shape = engine.backbone.preprocess.input_shape
    return torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))


def explained(method: Method, engine: Engine, x: Tensor) -> Tensor:
    V = method(engine, engine.forward(x), Y[: len(x)]).saliency
    assert V.shape == (len(x), *x.shape[2:])
    return V


def agree(V: Tensor, found: Tensor) -> None:
    """V is the ζ of what an oracle found."""
    expected = zeta(found)
    assert expected.std() > 0.05
    torch.testing.assert_close(V, expected, atol=1e-5, rtol=0)


SHAPES = [(3, (32, 32)), (1, (32, 32)), (5, (24, 40))]


@pytest.mark.parametrize(("channels", "size"), SHAPES)
@pytest.mark.parametrize(
    ("method", "oracle"),
    [
        (Saliency(), oracles.saliency),
        (InputXGradient(), oracles.inputxgradient),
        (IntegratedGradients(), oracles.ig),
    ],
)
def test_one_gradient_and_many_are_captums(
    channels: int,
    size: tuple[int, int],
    method: Method,
    oracle: Callable[[Engine, Tensor, Tensor], Tensor],
) -> None:
    engine = engine_of(channels, size)
    x = pictures(engine)
    agree(explained(method, engine, x), oracle(engine, x, Y))


def test_integrated_gradients_add_up_to_what_the_picture_adds_to_black() -> None:
    """The axiom of completeness, which holds to the step of the sum."""
    engine = engine_of()
    x = pictures(engine)[:1]
    seen: list[Tensor] = []

    def gradients(x: Tensor) -> Tensor:
        return picture_gradients(engine, x, Y[:1].expand(len(x)))

    for step in range(1, 401):
        seen.append(gradients(x * step / 400))
    total = float((x * torch.cat(seen).mean(0)).sum())
    f = logits_of(engine)
    expected = float((f(x) - f(torch.zeros_like(x)))[0, 0])
    assert total == pytest.approx(expected, rel=0.02)


def test_draws_are_captums() -> None:
    engine = engine_of()
    x = pictures(engine)
    x[1] = 0.2 + 0.3 * x[1]  # another range
    agree(explained(SmoothGrad(draws=6, seed=4), engine, x), oracles.smoothgrad(engine, x, Y, 6, 4))
    found = oracles.gradientshap(engine, x, Y, 6, 4)
    agree(explained(GradientShap(draws=6, seed=4), engine, x), found)


@pytest.mark.parametrize(("channels", "size"), [*SHAPES, (3, (33, 46))])
def test_occlusion_is_captums(channels: int, size: tuple[int, int]) -> None:
    engine = engine_of(channels, size)
    x = pictures(engine)
    method = Occlusion(engine.backbone)
    agree(explained(method, engine, x), oracles.occlusion(engine, x, Y))
    assert method.params["patch"] == [round(length / 7) for length in size]
    assert method.forward_passes == len(patches(size[0])) * len(patches(size[1]))


def test_patches_hide_every_pixel_at_every_size() -> None:
    assert len(patches(224)) == 13
    assert patches(224)[1].nonzero().flatten().tolist() == list(range(16, 48))
    for length in (1, 2, 7, 8, 14, 31, 100, 225):
        assert (patches(length).sum(0) > 0).all()
        assert (patches(length).sum(1) > 0).all()


NAMES = ("saliency", "inputxgradient", "ig", "smoothgrad", "gradientshap", "occlusion")


@pytest.mark.parametrize("name", NAMES)
def test_a_map_depends_on_its_picture_alone(name: str) -> None:
    together = engine_of(batch_size=32)
    x = pictures(together)
    classes = Y
    method = make_method(name, together.backbone, seed=3)
    all_at_once = method(together, together.forward(x), classes).saliency
    by_sevens = engine_of(batch_size=7)
    order = torch.tensor([2, 0, 1])
    other = make_method(name, by_sevens.backbone, seed=3)
    shuffled = other(by_sevens, by_sevens.forward(x[order]), classes[order]).saliency
    torch.testing.assert_close(shuffled, all_at_once[order], atol=1e-5, rtol=0)
    alone = method(together, together.forward(x[1:2]), classes[1:2]).saliency
    torch.testing.assert_close(alone, all_at_once[1:2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["smoothgrad", "gradientshap"])
def test_the_seed_changes_what_is_drawn(name: str) -> None:
    engine = engine_of()
    x = pictures(engine)
    one, other = (explained(make_method(name, engine.backbone, seed=s), engine, x) for s in (0, 1))
    assert (one - other).abs().max() > 1e-3


def test_maps_have_no_cells_of_a_layer() -> None:
    engine = engine_of()
    for name in NAMES:
        method = make_method(name, engine.backbone)
        assert layers_of_cells(method, engine.backbone) == []
        assert method(engine, engine.forward(pictures(engine)), Y).cam is None


def test_batches_that_do_not_fit_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(batch_size=16)
    x = pictures(engine)
    expected = explained(IntegratedGradients(20), engine, x)
    seen: list[int] = []
    own = Engine._logits_of

    def small(self: Engine, x: Tensor) -> Tensor:
        seen.append(len(x))
        if len(x) > 5 and x.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(self, x)

    monkeypatch.setattr(Engine, "_logits_of", small)
    torch.testing.assert_close(explained(IntegratedGradients(20), engine, x), expected)
    assert engine.limit == 4
    assert seen[-1] == 4


class WithoutGradients(nn.Module):
    """It rounds its image, and nothing below has a gradient; its target layer has one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.detach().round())


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_gradients_at_the_picture(name: str) -> None:
    preprocess = Preprocess(image_size=32, resize=36)
    own = Network(WithoutGradients(), "rounds", "none:seed=7", preprocess=preprocess)
    backbone = Backbone(own, "inner.3")
    assert backbone.differentiable
    if name == "occlusion":
        engine = Engine(backbone, device="cpu")
        x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        assert explained(make_method(name, backbone), engine, x).std() > 0
        return
    with pytest.raises(LcamError) as refused:
        make_method(name, backbone)
    assert str(refused.value.what).startswith(
        f"{name} needs gradients, and the logits of rounds have no gradients at the image"
    )
    assert refused.value.hint.startswith("use cam; these methods also work: occlusion, gradcam, ")


@pytest.mark.parametrize("name", NAMES)
def test_networks_that_show_no_layer_are_explained(name: str) -> None:
    scripted: Any = torch.jit.trace(tiny_network().eval(), torch.rand(1, 3, 32, 32))
    preprocess = Preprocess(image_size=32, resize=36)
    engine = Engine(Backbone(Network(scripted, "scripted", "none", preprocess=preprocess)))
    assert not engine.backbone.has_layer
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = Engine(tiny_backbone(), device="cpu")
    expected = explained(make_method(name, plain.backbone), plain, x)
    found = explained(make_method(name, engine.backbone), engine, x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [SmoothGrad, GradientShap, IntegratedGradients])
def test_no_draws_are_refused(make: Callable[[int], Method]) -> None:
    with pytest.raises(LcamError, match="a method with 0"):
        make(0)


def contrasted(f: Tensor, y: int) -> Tensor:
    """f_y less the mean of the two nearest logits, weighted by the softmax."""
    others = sorted((i for i in range(len(f)) if i != y), key=lambda i: float((f[i] - f[y]).abs()))
    p = f.softmax(0)[others[:2]]
    return f[y] - (p * f[others[:2]]).sum() / p.sum()


def test_a_contrast_takes_the_place_of_the_logit() -> None:
    engine = engine_of()
    x = pictures(engine)
    options = MethodOptions(contrast=Contrast(2))
    found = explained(make_method("saliency", engine.backbone, options=options), engine, x)
    for picture, y, V in zip(x, Y, found, strict=True):
        given = picture[None].clone().requires_grad_()
        (g,) = torch.autograd.grad(contrasted(logits_of(engine)(given)[0], int(y)), given)
        torch.testing.assert_close(V[None], zeta(g.abs().amax(1)), atol=1e-5, rtol=0)
    plain = explained(Saliency(), engine, x)
    assert (plain - found).abs().max() > 1e-2


def test_gradients_at_the_picture_are_computed_once_for_two_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = engine_of()
    x = pictures(engine)
    expected = [explained(method, engine, x) for method in (Saliency(), InputXGradient())]
    runs: list[int] = []
    own = Engine._logits_of

    def counted(self: Engine, x: Tensor) -> Tensor:
        runs.append(len(x))
        return own(self, x)

    monkeypatch.setattr(Engine, "_logits_of", counted)
    forward = replace(engine.forward(x), shared=Shared())
    found = [method(engine, forward, Y).saliency for method in (Saliency(), InputXGradient())]
    torch.testing.assert_close(found, expected)
    assert runs == [3]
