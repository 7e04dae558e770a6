"""Methods of one sweep share a backward pass, and each is timed as if by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.shared import Shared
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import make_method
from tests.tiny import tiny_backbone, write_pictures

SHARING = ["gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "eigengradcam"]


def swept(engine: Engine, tmp_path: Path, options: MethodOptions) -> list[Candidate]:
    paths = write_pictures(tmp_path / "photos", 3)
    task = Task(paths)
    candidates = [
        Candidate(
            name,
            make_method(name, engine.backbone, options=options),
            PictureScores.empty(task, (32, 32)),
        )
        for name in SHARING
    ]
    sweep(engine, candidates, task, workers=1)
    return candidates


def test_gradients_of_a_batch_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    calls: list[int] = []
    real = Engine._feature_gradients

    def slow(self: Engine, *given: object) -> torch.Tensor:
        calls.append(1)
        time.sleep(0.05)
        return real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "_feature_gradients", slow)
    candidates = swept(engine, tmp_path, MethodOptions())
    assert len(calls) == 1
    assert all(candidate.scores.seconds > 0.05 for candidate in candidates)


def test_of_several_layers_one_pass_serves_all_methods(tmp_path: Path) -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    passes: list[int] = []

    def ran(_module: object, _given: object, output: torch.Tensor) -> None:
        if torch.is_grad_enabled() and len(output) > 1:  # of one, layers are looked at
            passes.append(len(output))

    engine.backbone.network[0].register_forward_hook(ran)
    swept(engine, tmp_path, MethodOptions(layers=("1", "3")))
    assert passes == [3]


def test_what_is_known_is_known_for_the_very_classes() -> None:
    shared = Shared()
    one, other = torch.tensor([1]), torch.tensor([1])
    assert shared.get("g", one, lambda: one) is one
    assert shared.get("g", other, lambda: other) is other, "as large, but not the same"
    assert shared.get("g", one, lambda: other) is one
    assert shared.get("contrast", one, lambda: other) is other
    assert shared.saved > 0
    for _ in range(5):
        shared.get("g", torch.tensor([2]), lambda: 0)
    assert shared.get("g", one, lambda: other) is other, "forgotten"
