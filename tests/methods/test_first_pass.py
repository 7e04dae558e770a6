"""A method whose own first pass tells the class takes no second one, and gives the same maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine
from lcam_cli.methods.base import Method, first_pass
from lcam_cli.methods.explain import ClassChoice, explain, explained_at_once, pictures_at_once
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import make_method
from tests.methods.seeded import pictures
from tests.tiny import tiny_backbone, write_pictures
from tests.transformers import own_backbone, tiny_vit

Make = Callable[[], tuple[Engine, Method]]


def of(network: str, name: str, *layers: str, contrast: Contrast | None = None) -> Make:
    def make() -> tuple[Engine, Method]:
        backbone = own_backbone(tiny_vit()) if network == "vit" else tiny_backbone()
        options = MethodOptions(layers=layers, contrast=contrast)
        return Engine(backbone, device="cpu"), make_method(name, backbone, options=options)

    return make


CASES = {
    "saliency": of("vit", "saliency"),
    "saliency of a contrast": of("vit", "saliency", contrast=Contrast(2)),
    "inputxgradient": of("cnn", "inputxgradient"),
    "rollout": of("vit", "rollout"),
    "gae": of("vit", "gae"),
    "legrad": of("vit", "legrad"),
    "legrad of a contrast": of("vit", "legrad", contrast=Contrast(2)),
    "layercam of two layers": of("cnn", "layercam", "0", "3"),
    "refinecam": of("cnn", "refinecam", "0", "3"),
}


class Passes:
    """Counts the images that go through a network."""

    def __init__(self, engine: Engine) -> None:
        self.pictures = 0
        network = engine.backbone.network
        first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_hook(self._count)

    def _count(self, _module: object, _given: object, output: Tensor) -> None:
        self.pictures += len(output)


@pytest.mark.parametrize("name", CASES)
def test_maps_are_those_after_a_plain_pass(name: str) -> None:
    engine, method = CASES[name]()
    x = pictures(32)
    plain, own = engine.forward(x), first_pass(engine, method, x)
    assert own.graph is not None
    torch.testing.assert_close(own.logits, plain.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(own.A, plain.A, atol=1e-5, rtol=1e-4)
    assert own.grid == plain.grid
    for classes in (own.predicted, torch.zeros_like(own.predicted)):  # its graph serves twice
        V = method(engine, own, classes).saliency
        again = method(engine, plain, classes).saliency
        torch.testing.assert_close(V, again, atol=1e-4, rtol=0)
        assert V.any()


@pytest.mark.parametrize("name", CASES)
def test_explaining_takes_one_pass_whatever_the_classes(name: str, tmp_path: Path) -> None:
    engine, method = CASES[name]()
    paths = write_pictures(tmp_path, 10)
    list(explain(engine, method, paths[:1], workers=1))
    passes = Passes(engine)
    rows = list(explain(engine, method, paths, choice=ClassChoice(top_k=2), workers=1))
    assert sum(len(batch) for batch in rows) == 20
    assert passes.pictures == 10


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("going", ["forward", "back"])
def test_without_memory_for_the_graph_there_are_halves(
    name: str, going: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, method = CASES[name]()
    x = pictures(32)
    expected = method(engine, engine.forward(x), torch.zeros(len(x), dtype=torch.int64))
    grad = torch.autograd.grad

    def no_memory(outputs: Tensor, *args: object, **kwargs: object) -> object:
        if kwargs.get("retain_graph"):
            raise torch.OutOfMemoryError("out of memory")
        return grad(outputs, *args, **kwargs)  # type: ignore[arg-type]

    if going == "back":
        monkeypatch.setattr(torch.autograd, "grad", no_memory)
    else:
        engine.lower_limit(2)
    forward = first_pass(engine, method, x)
    assert (forward.graph is None) == (going == "forward")
    V = method(engine, forward, torch.zeros(len(x), dtype=torch.int64)).saliency
    torch.testing.assert_close(V, expected.saliency, atol=1e-4, rtol=0)


def test_graphs_of_the_whole_network_are_few() -> None:
    engine, saliency = CASES["saliency"]()
    assert (explained_at_once(engine, saliency), pictures_at_once(engine, saliency)) == (8, 32)
    layercam = make_method("layercam", engine.backbone)
    assert explained_at_once(engine, layercam) == 32
