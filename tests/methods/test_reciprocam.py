"""Recipro-CAM against a plain transcription, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.methods.reciprocam import ReciproCam
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests.methods import oracles
from tests.methods.heads import HEADS, SHAPES, Y, engine_of, pictures_of
from tests.methods.oracles import gaussian
from tests.methods.test_registry import Branching
from tests.programs import export
from tests.tiny import SMALL, tiny_network
from tests.transformers import own_backbone, tiny_swin, tiny_vit


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_the_map_is_the_equation(head: str, shape: tuple[tuple[int, int], int]) -> None:
    engine = engine_of(head, *shape, batch_size=7)
    forward = engine.forward(pictures_of(engine))
    P, Q = forward.A.shape[2:]
    cam = ReciproCam(P * Q)(engine, forward, Y).cam
    expected = oracles.reciprocam(engine.backbone.network[4:], forward.A, Y)
    spread = expected.flatten(1).std(1).min()
    torch.testing.assert_close(cam, expected, atol=1e-2 * float(spread), rtol=0)


def test_the_head_alone_runs_in_batches_of_the_engine() -> None:
    engine = engine_of("smooth", batch_size=16)
    forward = engine.forward(pictures_of(engine))
    batches: list[int] = []
    network = engine.backbone.network
    network[7].register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    network[0].register_forward_pre_hook(lambda *_: pytest.fail("below the target layer"))
    make_method("reciprocam", engine.backbone)(engine, forward, Y)
    assert sum(batches) == 3 * 8 * 8
    assert max(batches) == 16


def test_networks_that_are_run_whole() -> None:
    whole = Backbone(Network(Branching(), "whole", "none", preprocess=SMALL), "inner.3")
    assert not whole.is_split
    engine = Engine(whole, device="cpu", align=False, batch_size=16)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    forward = engine.forward(x)
    cam = make_method("reciprocam", whole)(engine, forward, Y).cam
    behind = whole.network.inner[4:]
    for b, (p, q) in enumerate([(0, 0), (3, 7), (7, 2)]):
        expected = behind(forward.A[b : b + 1] * gaussian(8, 8, p, q)).softmax(1)[0, Y[b]]
        torch.testing.assert_close(cam[b, p, q], expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("build", [tiny_vit, tiny_swin])
def test_tokens_are_cells_and_the_class_token_stays(build: object) -> None:
    engine = Engine(own_backbone(build()), device="cpu", batch_size=5)  # type: ignore[operator]
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    forward = engine.forward(x)
    P, Q = forward.A.shape[2:]
    y = torch.tensor([0, 1])
    cam = ReciproCam(P * Q)(engine, forward, y).cam
    A = forward.A * gaussian(P, Q, 1, 2)
    expected = engine.head(A, forward.around).softmax(1)[[0, 1], y]
    torch.testing.assert_close(cam[:, 1, 2], expected, atol=1e-5, rtol=1e-4)


def test_exported_programs(tmp_path: Path) -> None:
    path = export(tiny_network(), tmp_path / "net.pt2")
    engine = Engine(load_backbone(str(path), preprocess=SMALL), device="cpu", batch_size=16)
    forward = engine.forward(torch.rand(2, 3, 32, 32))
    maps = make_method("reciprocam", engine.backbone)(engine, forward, torch.tensor([0, 1]))
    expected = tiny_network()[4:](forward.A[:1] * gaussian(8, 8, 2, 5)).softmax(1)[0, 0]
    torch.testing.assert_close(maps.cam[0, 2, 5], expected.detach(), atol=1e-5, rtol=1e-4)
