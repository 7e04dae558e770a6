"""Every method by name: on networks that cannot be split, and in half precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Maps
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.networks.network import Network
from tests.tiny import SMALL, tiny_backbone, tiny_network

FEW = MethodOptions(rise_masks=40)
OF_CONVOLUTIONS = [name for name, entry in METHODS.items() if not entry.attention]


class Branching(nn.Module):
    """The tiny network behind a choice that tracing cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x if x.isfinite().all() else x.nan_to_num())


def explained(name: str, backbone: Backbone, precision: str = "fp32") -> Maps:
    # Tiled: where cells lie is not known of a network that cannot be traced.
    engine = Engine(backbone, device="cpu", precision=precision, batch_size=16, align=False)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    method = make_method(name, backbone, options=FEW)
    return method(engine, engine.forward(x), torch.tensor([0, 3, 1]))


@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_networks_that_cannot_be_split_get_the_same_maps(name: str) -> None:
    whole = Backbone(Network(Branching(), "whole", "none", preprocess=SMALL), "inner.3")
    assert not whole.is_split
    expected = explained(name, tiny_backbone()).saliency
    assert expected.std() > 0.01
    torch.testing.assert_close(explained(name, whole).saliency, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_half_precision_stays_in_the_network(name: str) -> None:
    exact, rounded = (explained(name, tiny_backbone(), p).saliency for p in ("fp32", "bf16"))
    assert rounded.dtype == torch.float32
    assert rounded.min() >= 0
    assert rounded.max() <= 1
    assert float((rounded - exact).abs().mean()) < 0.03


def test_what_a_map_costs() -> None:
    costs = {
        n: make_method(n, tiny_backbone(), options=FEW).forward_passes for n in OF_CONVOLUTIONS
    }
    others = {
        "smoothgradcam++": 25,
        "integrated-gradcam": 20,
        "ablationcam": 6,
        "reciprocam": 64,
        "opticam": 100,
        "scorecam": 6,
        "groupcam": 33,
        "sidu": 6,
        "sise": 11,
        "adasise": 11,
        "rise": 40,
        "occlusion": 225,  # of 5 pixels, 2 apart, in 32x32
        "ig": 50,
        "smoothgrad": 50,
        "gradientshap": 20,
        "random": 0,
    }
    assert costs == {**dict.fromkeys(OF_CONVOLUTIONS, 1), **others}


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(LcamError, match="unknown method 'score-cam'") as unknown:
        make_method("score-cam", tiny_backbone())
    assert "scorecam" in unknown.value.hint
    assert "--list-methods" in unknown.value.hint


def test_the_seed_given_replaces_that_of_the_options() -> None:
    options = MethodOptions(seed=5)
    assert make_method("random", tiny_backbone(), options=options).params == {"seed": 5}
    assert make_method("random", tiny_backbone(), options=options, seed=0).params == {"seed": 0}
