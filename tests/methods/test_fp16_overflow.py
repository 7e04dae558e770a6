"""Pictures on which fp16 gives no numbers are computed again in fp32, and nothing else is."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.device import Hardware
from lcam_cli.engine.engine import Engine
from lcam_cli.maps.record import MapBatch
from lcam_cli.methods.explain import ClassChoice, explain
from lcam_cli.networks.network import Network
from tests.tiny import SMALL, tiny_network

DARK, LIGHT = 20, 255


class Loud(nn.Module):
    """A network with a layer that goes beyond 65,504 on light images, and comes back.

    Args:
        loudness: What it reaches on an image of mean colour is nine times that.
        fragile: Whether what it reaches takes the image along, which is rounded away.
    """

    def __init__(self, loudness: float, fragile: bool = False) -> None:
        super().__init__()
        network = tiny_network()
        self.fragile = fragile
        self.louder = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.louder.weight, loudness)
        self.stem, self.features, self.head = network[:1], network[1:4], network[4:]

    def forward(self, x: Tensor) -> Tensor:
        loud = self.louder((x.mean((1, 2, 3), keepdim=True) + 3).square())
        if self.fragile:
            stem = self.stem(x + loud) - self.stem(loud.expand_as(x))
        else:
            stem = self.stem(x + (loud - loud))
        logits: Tensor = self.head(self.features(stem))
        return logits


def fp16_engine(
    loudness: float,
    monkeypatch: pytest.MonkeyPatch,
    asked: str = "fp16",
    *,
    fragile: bool = False,
) -> Engine:
    """An engine that takes a CPU for a GPU."""
    preprocess = replace(SMALL, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    network = Network(Loud(loudness, fragile), "loud", "none", preprocess=preprocess)
    hardware = {
        "fp16": Hardware(torch.device("cpu"), "fp16"),
        "auto": Hardware(torch.device("cpu"), "fp16", ("bf16", "fp32")),
        "fp32": Hardware(torch.device("cpu"), "fp32"),
    }[asked]
    monkeypatch.setattr("lcam_cli.engine.engine.hardware_for", lambda *_args: hardware)
    return Engine(Backbone(network, "features.2"), batch_size=4)


def pictures(*levels: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.clip(rng.integers(-10, 11, (32, 32, 3)) + level, 0, 255).astype(np.uint8)
        for level in levels
    ]


def rows(engine: Engine, given: list[np.ndarray], method: str = "gradcam") -> list[MapBatch]:
    return list(explain(engine, method, given, choice=ClassChoice(top_k=2), workers=1))


# (mean + 3)² is 2 on dark images, 9 on the noise that a network is tried with, and 25 on light
# ones: 65,504 lies between.
LOUDNESS = 4000.0


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "scorecam"])
def test_what_overflows_is_computed_in_fp32(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = pictures(DARK, LIGHT, DARK, LIGHT, DARK, LIGHT)
    exact = rows(fp16_engine(LOUDNESS, monkeypatch, "fp32"), given, method)
    engine = fp16_engine(LOUDNESS, monkeypatch)
    x = engine.pixels(np.stack(given))
    assert engine.forward(x).finite.tolist() == [True, False] * 3, "fp16 gives numbers on half"
    with caplog.at_level(logging.WARNING, "lcam"):
        found = rows(engine, given, method)
    assert sum(len(batch.skipped) for batch in found) == 0
    for a, b in zip(found, exact, strict=True):
        assert a.paths == b.paths
        light = np.array([path in ("image 1", "image 3", "image 5") for path in a.paths])
        np.testing.assert_array_equal(a.class_index[light], b.class_index[light])
        # But for the batch that they are in, the same; fp16 rounds to 5e-4.
        np.testing.assert_allclose(a.saliency[light], b.saliency[light], atol=1e-5)
        np.testing.assert_allclose(a.confidence[light], b.confidence[light], atol=1e-6)
        np.testing.assert_allclose(a.confidence, b.confidence, atol=2e-3)
        apart = np.abs(a.confidence[~light] - b.confidence[~light])
        assert apart.max() > 1e-6, "the others stay in fp16"
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert "image 1" in said[0]
    assert "fp32" in said[0]
    assert engine.hardware.precision == "fp16"
    assert engine.forward(x).finite.tolist() == [True, False] * 3, "the network is in fp16 again"


def test_what_has_no_numbers_in_fp32_either_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fp16_engine(1.5e37, monkeypatch)
    (batch,) = rows(engine, pictures(DARK, LIGHT, LIGHT))
    assert set(batch.paths) <= {"image 0"}
    reasons = {one.path: one.reason for one in batch.skipped}
    assert "image 1" in reasons
    assert "image 2" in reasons
    assert all("fp16" not in reason for reason in reasons.values()), "fp32 was tried"


@pytest.mark.parametrize(
    ("loudness", "fragile", "taken"),
    [(1.0, False, "fp16"), (2e4, False, "bf16"), (1e3, True, "fp32")],
)
def test_auto_takes_the_first_precision_in_which_the_network_is_right(
    loudness: float, fragile: bool, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fp16_engine(loudness, monkeypatch, "auto", fragile=fragile)
    assert engine.hardware.precision == taken
    assert engine.hardware.fallbacks == ()
