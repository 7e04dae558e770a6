"""The benchmark of rates has a line for every method, and its passes are those that are taken."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.methods.registry import METHODS
from tests.tiny import tiny_backbone
from tests.transformers import own_backbone, tiny_vit

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PASSES = 12


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        import method_rates

        return method_rates


def test_no_method_is_missing(rates: ModuleType) -> None:
    assert set(rates.PLANS) == set(METHODS)


ATTENTION = ("rollout", "gae", "legrad")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_passes_it_is_held_against(name: str, rates: ModuleType) -> None:
    backbone: Backbone = own_backbone(tiny_vit()) if name in ATTENTION else tiny_backbone()
    engine = Engine(backbone, device="cpu", batch_size=4)
    x = torch.rand(4, *backbone.preprocess.input_shape, generator=torch.Generator().manual_seed(0))
    timed = rates.prepare(engine, name, x, PASSES)
    timed.work()
    first, last = (
        [m for m in backbone.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)][i]
        for i in (0, -1)
    )
    seen = {"first": 0, "last": 0}

    def count(which: str) -> object:
        def hook(_module: object, _given: object, output: Tensor) -> None:
            seen[which] += len(output)

        return hook

    first.register_forward_hook(count("first"))
    last.register_forward_hook(count("last"))
    timed.work()
    cost = timed.cost
    assert seen["first"] == timed.pictures * (cost.forward + cost.whole)
    if name != "legrad":  # which runs the head on every block
        heads = cost.forward + cost.whole + cost.head
        # Gradients at the layer run what follows it again, but for copies.
        copies = name in ("smoothgradcam++", "integrated-gradcam")
        again = 0 if copies else cost.back
        assert seen["last"] == timed.pictures * (heads + again)
