"""Average Drop of several methods in one pass, against the equations written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.find import Skipped
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.drops import Drop, Measured, measure_drops
from lcam_cli.measures.selection import DROPS, SHOWN
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.explain import explain
from lcam_cli.methods.noise import RandomMap
from lcam_cli.networks.network import Network
from tests.tiny import SMALL, Standardised, tiny_backbone, write_pictures


def engine_of(backbone: Backbone, batch_size: int = 3) -> Engine:
    return Engine(backbone, device="cpu", precision="fp32", batch_size=batch_size)


def by_hand(engine: Engine, paths: list[str], drop: Drop) -> list[float]:
    """AD of CAM's maps, image by image: max(0, f − f(masked)) / f of the class predicted."""
    backbone, found = engine.backbone, []
    mean = torch.tensor(backbone.preprocess.mean).view(3, 1, 1)
    std = torch.tensor(backbone.preprocess.std).view(3, 1, 1)
    maps = [rows.saliency for rows in explain(engine, Cam(backbone), paths, workers=1)]
    for path, V in zip(paths, np.concatenate(maps), strict=True):
        (batch,) = stream_batches([path], backbone.preprocess, 1, workers=1)
        x = torch.from_numpy(batch.images[0]).permute(2, 0, 1) / 255
        flat = torch.from_numpy(V).flatten()
        kept = torch.zeros_like(flat)
        count = round(drop.nu * len(flat) / 100)
        order = flat.sort(descending=True, stable=True).indices[:count]
        kept[order] = flat[order] if drop.keep == "values" else 1.0
        shown = [x, x * kept.view(V.shape)]
        with torch.no_grad():
            logits = backbone.network(torch.stack([(one - mean) / std for one in shown]))
        scores = logits.softmax(1)[:, logits[0].argmax()]
        found.append(float((scores[0] - scores[1]).clamp_min(0) / scores[0] * 100))
    return found


def test_the_equations(tmp_path: Path) -> None:
    """Two whole batches and a short one; the maps done are counted."""
    engine, paths = engine_of(tiny_backbone()), write_pictures(tmp_path, 7)
    methods = {
        "cam": Measured(Cam(engine.backbone), DROPS),
        "random": Measured(RandomMap(1), SHOWN),
    }
    done: list[int] = []
    found = measure_drops(engine, methods, paths, workers=1, advance=done.append)
    assert found is not None
    for row, drop in zip(found["cam"], DROPS, strict=True):
        np.testing.assert_allclose(row, by_hand(engine, paths, drop), atol=1e-3)
    assert found["random"].shape == (2, 7)
    assert np.isfinite(found["random"]).all()
    assert sum(done) == 2 * 7


def test_each_batch_is_forwarded_once_and_each_drop_costs_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, paths = engine_of(tiny_backbone()), write_pictures(tmp_path, 6)
    methods = {
        "one": Measured(Cam(engine.backbone), DROPS),
        "two": Measured(Cam(engine.backbone), DROPS),
        "random": Measured(RandomMap(1), SHOWN),
    }
    forwards = masked = 0
    forward, confidence = engine.forward, engine.masked_confidence

    def count_forward(x: torch.Tensor) -> object:
        nonlocal forwards
        forwards += 1
        return forward(x)

    def count_masked(*given: object) -> torch.Tensor:
        nonlocal masked
        masked += 1
        return confidence(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "forward", count_forward)
    monkeypatch.setattr(engine, "masked_confidence", count_masked)
    assert measure_drops(engine, methods, paths, workers=1) is not None
    assert forwards == 2
    assert masked == 2 * (7 + 7 + 2)


def test_what_cannot_be_scored_is_reported_once_and_has_no_drop(tmp_path: Path) -> None:
    network = Network(Standardised().eval(), "standardised", "none", preprocess=SMALL)
    engine = engine_of(Backbone(network, "features.3"))
    paths = write_pictures(tmp_path, 6)
    Path(paths[1]).write_text("no picture")
    Image.new("RGB", (50, 40), (9, 9, 9)).save(paths[2])  # 0/0: scores that are no numbers
    for path in paths[3:]:  # a batch without one that is of use
        Path(path).write_text("no picture")
    skipped: list[Skipped] = []
    done: list[int] = []
    methods = {name: Measured(RandomMap(1), SHOWN) for name in ("one", "two")}
    found = measure_drops(
        engine, methods, paths, workers=1, skip=skipped.append, advance=done.append
    )
    assert found is not None
    assert [one.path for one in skipped] == [paths[1], paths[2], *paths[3:]]
    assert np.isfinite(found["one"]).all(0).tolist() == [True] + [False] * 5
    assert sum(done) == 2 * 6


def test_it_can_be_stopped_between_two_methods(tmp_path: Path) -> None:
    engine, paths = engine_of(tiny_backbone()), write_pictures(tmp_path, 7)
    methods = {str(i): Measured(RandomMap(i), SHOWN) for i in range(3)}
    done: list[int] = []
    answers = iter([False, False, False, False, True])
    stopped = measure_drops(
        engine, methods, paths, workers=1, advance=done.append, stop=lambda: next(answers)
    )
    assert stopped is None
    assert done == [3, 3, 3, 3]
