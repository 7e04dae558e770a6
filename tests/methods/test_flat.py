"""Flat maps, and why they are so; images without scores in a run of explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Maps, flat_maps
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.explain import NOT_NUMBERS, explain
from lcam_cli.methods.flat import why_flat
from lcam_cli.methods.gradient import GradCam, GradCamPlusPlus, LayerCam
from lcam_cli.networks.network import Network
from tests.tiny import SMALL, Standardised, tiny_network, write_pictures


def engine_of(module: nn.Module, layer: str = "3") -> Engine:
    network = Network(module.eval(), "own", "none", preprocess=SMALL)
    return Engine(Backbone(network, layer), device="cpu", batch_size=4)


def seen_by(engine: Engine, value: float | None = None) -> tuple[Forward, Tensor]:
    """Two images, of noise or of one value, and the classes predicted."""
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = engine.forward(x if value is None else torch.full_like(x, value))
    return seen, seen.predicted


def test_which_maps_are_flat() -> None:
    V = torch.zeros(4, 3, 2)
    V[1], V[2, 2, 1], V[3] = 0.3, 1e-6, torch.nan
    assert flat_maps(V).tolist() == [True, True, False, False]


@pytest.mark.parametrize("method", [GradCam(), GradCamPlusPlus(), LayerCam()])
def test_nothing_speaks_for_the_class(method: Any) -> None:
    module = tiny_network()
    with torch.no_grad():
        module[-1].weight.copy_(-module[-1].weight.abs() - 0.1)
    engine = engine_of(module)
    seen, classes = seen_by(engine)
    assert flat_maps(method(engine, seen, classes).saliency).all()
    why = why_flat(engine, method.name, seen, classes)
    assert why == (
        "no feature of layer 3 raises the score of the class; --method cam keeps the sign"
    )
    assert not flat_maps(Cam(engine.backbone)(engine, seen, classes).saliency).any()


def test_cam_is_not_named_where_it_cannot_explain() -> None:
    module = tiny_network()
    with torch.no_grad():
        module[-1].weight.copy_(-module[-1].weight.abs() - 0.1)
    module.append(nn.Linear(4, 4))
    with torch.no_grad():
        module[-1].weight.copy_(torch.eye(4))
    engine = engine_of(module)
    seen, classes = seen_by(engine)
    why = why_flat(engine, "gradcam", seen, classes)
    assert why == "no feature of layer 3 raises the score of the class"


class TwoSoftmaxes(nn.Module):
    """Their mean is no last step that could be taken off."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z.softmax(1) + (2 * z).softmax(1)) / 2


# Of what is typed as logits nothing is taken off.
@pytest.mark.parametrize(
    ("end", "activation"),
    [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "softmax"), (TwoSoftmaxes(), None)],
)
def test_probabilities_that_are_saturated(end: nn.Module, activation: str | None) -> None:
    module = tiny_network()
    classifier = module[-1]
    network = Network(module.append(end), "tiny", "none:seed=7", preprocess=SMALL)
    engine = Engine(Backbone(network, "3", activation=activation), device="cpu")
    # Only now: a network that is as sure of any image is refused.
    with torch.no_grad():
        classifier.bias.copy_(torch.tensor([1000.0, -1000, -1000, -1000]))
    seen, classes = seen_by(engine)
    assert not engine.feature_gradients(seen, classes).any()
    why = why_flat(engine, "gradcam", seen, classes)
    assert why.startswith("the network returns probabilities, whose gradients vanish")


def test_a_layer_whose_gradients_are_0() -> None:
    module = tiny_network()
    with torch.no_grad():
        module[-1].weight.zero_()
        module[-1].bias.copy_(torch.tensor([3.0, 1, -2, 0]))
    engine = engine_of(module)
    seen, classes = seen_by(engine)
    why = why_flat(engine, "layercam", seen, classes)
    assert why.startswith("the scores have no gradient at layer 3")


def test_a_picture_of_one_colour() -> None:
    engine = engine_of(
        nn.Sequential(nn.Conv2d(3, 4, 4, 4), *tiny_network()[3:6], nn.Linear(4, 3)), "1"
    )
    seen, classes = seen_by(engine, 0.5)
    for name in ("lcam-img", "cam", "gradcam"):
        assert "as on an image of one colour" in why_flat(engine, name, seen, classes)


def test_no_reason_is_made_up() -> None:
    engine = engine_of(tiny_network())
    seen, classes = seen_by(engine)
    assert why_flat(engine, "gradcam", seen, classes) == ""
    assert why_flat(engine, "rise", seen, classes) == ""


class Strict:
    """A method that fails where a score is no number, as some do."""

    name = "strict"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        if not seen.logits.isfinite().all():
            raise LcamError("no numbers", "give it some")
        return GradCam()(engine, seen, classes)


def test_a_method_that_fails_on_one_picture_gets_the_others(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 5)
    Image.new("RGB", (50, 40), (7, 7, 7)).save(paths[1])
    engine = engine_of(Standardised(), "features.3")
    for method in (Strict(), GradCam()):
        batches = list(explain(engine, method, paths))
        assert [one.paths for one in batches] == [[paths[0], *paths[2:4]], [paths[4]]]
        assert [(s.path, s.reason) for s in batches[0].skipped] == [(paths[1], NOT_NUMBERS)]
        alone = list(explain(engine, method, [path for path in paths if path != paths[1]]))
        np.testing.assert_allclose(
            np.concatenate([one.saliency for one in batches]),
            np.concatenate([one.saliency for one in alone]),
            atol=1e-6,
        )
    Image.new("RGB", (50, 40), (7, 7, 7)).save(paths[4])
    assert len(list(explain(engine, Strict(), paths))[1]) == 0


def test_a_method_that_fails_on_good_pictures_still_fails(tmp_path: Path) -> None:
    class Broken(Strict):
        def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
            raise LcamError("always", "")

    paths = write_pictures(tmp_path, 2)
    with pytest.raises(LcamError, match="always"):
        list(explain(engine_of(tiny_network()), Broken(), paths))


def test_half_precision_is_named_where_it_may_be_the_cause(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 1)
    Image.new("RGB", (50, 40), (7, 7, 7)).save(paths[0])
    network = Network(Standardised().eval(), "own", "none", preprocess=SMALL)
    engine = Engine(Backbone(network, "features.3"), device="cpu", precision="bf16")
    (batch,) = explain(engine, GradCam(), paths)
    assert batch.skipped[0].reason == f"{NOT_NUMBERS} in bf16; try --precision fp32"


def test_a_logit_of_minus_infinity_is_a_score_of_0(tmp_path: Path) -> None:
    """Some networks take classes out so."""
    module = tiny_network()
    with torch.no_grad():
        module[-1].bias[1] = -torch.inf
    (batch,) = explain(engine_of(module), GradCam(), write_pictures(tmp_path, 2))
    assert (len(batch), batch.skipped) == (2, [])


def test_a_classifier_of_zeros_is_not_called_sure() -> None:
    module = tiny_network()
    with torch.no_grad():
        module[-1].weight.zero_()
        module[-1].bias.zero_()
    engine = engine_of(module)
    seen, classes = seen_by(engine)
    assert why_flat(engine, "gradcam", seen, classes).startswith("all logits are 0")
