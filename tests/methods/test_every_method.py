"""Every method on networks drawn at random: a map that is the image's own, or one line why not.

A map is the same whatever the batch around its image, and whether its method runs alone, as in
``lcam explain``, or shares passes with others, as in ``lcam compare``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.shared import Shared
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.base import Method
from lcam_cli.methods.opticam import OptiCam
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import METHODS, try_method
from lcam_cli.methods.run import run_method
from lcam_cli.networks.network import Network
from tests.engine.test_random_networks import drawn
from tests.methods.drawn_transformers import drawn_transformer

COUNT = 60 if os.environ.get("LCAM_FULL") else 4
FIRST = 400  # other networks than those of tests/engine


@dataclass
class Case:
    """A network, images and classes; ``parts`` says what was drawn."""

    parts: str
    engine: Engine
    x: Tensor
    classes: Tensor


def case(network: nn.Module, parts: str, channels: int, prefix: int, seed: int) -> Case | None:
    """None where the network itself is refused."""
    preprocess = Preprocess(32, 36, (0.4,) * channels, (0.3,) * channels)
    found = Network(network, "drawn", "none", preprocess=preprocess)
    try:
        backbone = Backbone(found, grid="4x4" if prefix > 1 else "")
    except LcamError:
        return None
    if backbone.one_by_one:  # what it gives depends on the batch, and so do its maps
        return None
    x = torch.rand(3, channels, 32, 32, generator=torch.Generator().manual_seed(seed))
    classes = torch.tensor([0, 3, 1]) % backbone.num_classes
    return Case(parts, Engine(backbone, device="cpu", batch_size=4), x, classes)


def convolutional(seed: int) -> Case | None:
    network = drawn(seed)
    return case(network, ", ".join(network.told), 3, 0, seed)


def transformer(seed: int) -> Case | None:
    network = drawn_transformer(seed)
    return case(network, network.parts, network.channels, network.prefix, seed)


def methods(backbone: Backbone) -> Iterator[Method]:
    """All that can explain it, those of gradients also with a contrast."""
    contrasts = (None, Contrast(2, 0.7))
    for name, entry in METHODS.items():
        for contrast in contrasts if entry.contrasts else contrasts[:1]:
            try:
                yield try_method(name, backbone, MethodOptions(rise_masks=8, contrast=contrast))
            except LcamError as error:
                assert name in error.what or backbone.identity.name in error.what  # noqa: PT017
                assert "\n" not in error.what  # noqa: PT017


def check(one: Case) -> int:
    """Explain with every method: how many there are."""
    engine, classes = one.engine, one.classes
    together = engine.forward(one.x)
    sharing = replace(together, shared=Shared())
    alone = [engine.forward(one.x[i : i + 1]) for i in range(len(one.x))]
    count = 0
    for method in methods(engine.backbone):
        told = f"{method.name} {method.params}: {one.parts}"

        def maps(forward: Forward, classes: Tensor, method: Method = method) -> Tensor:
            return run_method(engine, method, forward, classes).maps.saliency

        V = maps(together, classes)
        assert V.shape == (3, 32, 32), told
        assert V.isfinite().all(), told
        assert V.min() >= 0, told
        assert V.max() <= 1, told
        assert torch.equal(maps(sharing, classes), V), told
        each = torch.cat([maps(a, classes[i : i + 1]) for i, a in enumerate(alone)])
        assert (V - each).abs().max() < 2e-3, told
        count += 1
    return count


@pytest.mark.timeout(3600)  # of the full count
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("make", [convolutional, transformer])
def test_every_method_explains_every_network_or_says_why_not(
    make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(METHODS["opticam"], make=lambda *_: OptiCam(2))  # rounding grows with every step
    monkeypatch.setitem(METHODS, "opticam", few)
    found = [make(seed) for seed in range(FIRST, FIRST + COUNT)]  # type: ignore[operator]
    counts = [check(one) for one in found if one is not None]
    print(f"\n{len(counts)} networks, methods: {counts}")
    assert len(counts) >= 0.7 * COUNT
    assert max(counts) > 30
