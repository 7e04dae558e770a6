"""The contrast with near classes: by hand, against the grad-cam package, and where classes lack."""

from __future__ import annotations

import math

import pytest
import pytorch_grad_cam
import torch
from torch import Tensor

from lcam_cli.engine.activation import Activation
from lcam_cli.engine.contrast import Contrast, explained, near_classes
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.contrasted import Contrasted
from lcam_cli.methods.copies import IntegratedGradCam
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import METHODS, contrasting, make_method
from tests.methods import oracles
from tests.methods.heads import HEADS, Y, engine_of, pictures_of
from tests.tiny import tiny_backbone

LOGITS = torch.tensor([[2.0, 1.0, 2.5, -3.0], [0.0, -0.5, 5.0, 0.25]])


def test_near_are_those_of_the_nearest_logits_and_never_y_itself() -> None:
    near = Contrast(2).of(LOGITS).near(torch.tensor([0, 1]))
    assert near.tolist() == [[2, 1], [0, 3]]
    tied = Contrast(3).of(torch.zeros(1, 4)).near(torch.tensor([2]))
    assert sorted(tied[0].tolist()) == [0, 1, 3]
    infinite = Contrast(3).of(torch.tensor([[1.0, -math.inf, 2.0, math.inf]]))
    assert sorted(infinite.near(torch.tensor([0]))[0].tolist()) == [1, 2, 3]


def test_the_contrast_is_its_equation() -> None:
    y = torch.tensor([0, 1])
    contrast = Contrast(2, 0.5).of(LOGITS)
    near = near_classes(contrast, y)
    p = LOGITS.softmax(1)
    for activation, p in (("softmax", LOGITS.softmax(1)), ("sigmoid", LOGITS.sigmoid())):
        found = explained(LOGITS, y, near, contrast, activation)
        for b in range(2):
            i = near[b]
            mean = (p[b, i] * LOGITS[b, i]).sum() / p[b, i].sum()
            torch.testing.assert_close(found[b], LOGITS[b, y[b]] - 0.5 * mean)


def test_scores_too_small_to_be_numbers_still_weigh() -> None:
    logits = torch.tensor([[0.0, -200.0, -201.0]])
    contrast = Contrast(2).of(logits)
    y = torch.tensor([0])
    for activation in ("softmax", "sigmoid"):
        value = explained(logits, y, near_classes(contrast, y), contrast, activation)
        expected = 200 + 1 / (1 + math.e)
        torch.testing.assert_close(value, torch.tensor([expected]))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_class_that_is_ruled_out_weighs_nothing(activation: Activation) -> None:
    logits = torch.tensor([[2.0, -math.inf, 1.5, 0.5]], requires_grad=True)
    contrast, y = Contrast(3).of(logits), torch.tensor([0])
    value = explained(logits, y, near_classes(contrast, y), contrast, activation)
    few = logits[:, [0, 2, 3]].detach()
    expected = explained(few, y, torch.tensor([[1, 2]]), contrast, activation)
    torch.testing.assert_close(value.detach(), expected)
    (g,) = torch.autograd.grad(value.sum(), logits)
    assert g.isfinite().all()
    assert g[0, 1] == 0


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_of_fewer_classes_those_there_are_count(classes: int) -> None:
    logits = LOGITS[:, :classes]
    contrast, y = Contrast(3).of(logits), torch.zeros(2, dtype=torch.int64)
    near = near_classes(contrast, y)
    assert near.shape == (2, classes - 1)
    value = explained(logits, y, near, contrast)
    if classes == 1:
        torch.testing.assert_close(value, logits[:, 0])
    if classes == 2:
        torch.testing.assert_close(value, logits[:, 0] - logits[:, 1])


@pytest.mark.parametrize("head", HEADS)
def test_finercam_agrees_with_the_grad_cam_package(head: str) -> None:
    if not hasattr(pytorch_grad_cam, "FinerCAM"):
        pytest.skip("this grad-cam has no FinerCAM")
    engine = engine_of(head)
    x = pictures_of(engine)
    for contrast, arguments in ((None, {}), (Contrast(1, 0.6), {"alpha": 0.6, "near": 1})):
        options = MethodOptions(contrast=contrast)
        method = make_method("finercam", engine.backbone, options=options)
        y = 2
        ours = method(engine, engine.forward(x), torch.full((3,), y)).saliency
        expected = oracles.finercam(engine, x, y, "3", **arguments)
        assert (expected.amax((1, 2)) > 0.5).any()
        torch.testing.assert_close(min_max(ours), expected, atol=1e-4, rtol=0)


def test_near_classes_of_copies_are_those_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of("smooth", batch_size=4)
    x = pictures_of(engine)
    forward = engine.forward(x)
    seen: list[Tensor] = []
    real = Contrast.near

    def near(self: Contrast, classes: Tensor) -> Tensor:
        assert self.logits is not None
        seen.append(self.logits)
        return real(self, classes)

    monkeypatch.setattr(Contrast, "near", near)
    Contrasted(IntegratedGradCam(3), Contrast(2))(engine, forward, Y)
    asked = torch.cat(seen)
    torch.testing.assert_close(asked, forward.logits.repeat_interleave(3, 0))


def test_every_method_that_says_so_takes_a_contrast_and_no_other() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    forward = engine.forward(x)
    options = MethodOptions(rise_masks=40, contrast=Contrast(2, 0.5))
    assert {"gradcam", "layercam", "hirescam", "smoothgradcam++"} < set(contrasting())
    for name, entry in METHODS.items():
        if entry.attention:  # of transformers, whose own tests have contrasts
            continue
        if name not in contrasting():
            with pytest.raises(LcamError, match=f"{name} does not support --contrast") as refused:
                make_method(name, engine.backbone, options=options)
            assert "gradcam" in refused.value.hint
            continue
        method = make_method(name, engine.backbone, options=options)
        plain = make_method(name, engine.backbone)
        assert method.name == name
        assert method.params["contrast"] == "2:0.5"
        with_contrast = method(engine, forward, Y).saliency
        assert not torch.allclose(with_contrast, plain(engine, forward, Y).saliency, atol=1e-3)


def test_a_contrast_of_no_other_class_changes_nothing() -> None:
    engine = engine_of("smooth")
    forward = engine.forward(pictures_of(engine))
    plain = GradCam()(engine, forward, Y)
    without = Contrasted(GradCam(), Contrast(3, 0.0))(engine, forward, Y)
    torch.testing.assert_close(without.cam, plain.cam)


@pytest.mark.parametrize(
    ("text", "found"), [("3", (3, 1.0)), ("1:0.6", (1, 0.6)), ("12:0", (12, 0.0))]
)
def test_what_is_typed(text: str, found: tuple[int, float]) -> None:
    contrast = Contrast.parse(text)
    assert (contrast.count, contrast.alpha) == found
    assert Contrast.parse(str(contrast)) == contrast


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "3:", "3:-1", "3:x", "three", "1.5", "3:1:1", "3:inf"]
)
def test_what_is_no_contrast_is_refused(text: str) -> None:
    with pytest.raises(LcamError, match="is not K or K:ALPHA"):
        Contrast.parse(text)
