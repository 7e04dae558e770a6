"""RISE against a plain transcription of its definition."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.rise import Rise
from tests.conftest import ROOT
from tests.methods.seeded import likely, pictures, seeded_engine
from tests.tiny import tiny_backbone


def all_masks(count: int, side: int, cells: int = 7, p: float = 0.5, seed: int = 0) -> list[Tensor]:
    """Grids and shifts drawn as Rise documents it, each enlarged whole and then cut."""
    rng = np.random.default_rng(seed)
    grids = rng.random((count, cells, cells)) < p
    shifts = rng.random((count, 2))
    cell = int(np.ceil(side / cells))
    large = (cells + 1) * cell
    masks = []
    for grid, shift in zip(torch.from_numpy(grids).float(), shifts, strict=True):
        whole = interpolate(grid[None, None], (large, large), mode="bilinear", align_corners=False)
        top, left = int(shift[0] * cell), int(shift[1] * cell)
        masks.append(whole[0, 0, top : top + side, left : left + side])
    return masks


def transcribed(engine: Engine, x: Tensor, y: int, masks: list[Tensor], p: float = 0.5) -> Tensor:
    """One image: V = ζ(Σ_n softmax(f(X·mask_n))_y · mask_n / (N·p))."""
    V = torch.zeros(x.shape[1:])
    with torch.no_grad():
        for mask in masks:
            logits = engine.backbone.network(engine.normalise(x[None]) * mask)
            V += logits.softmax(1)[0, y] * mask / (len(masks) * p)
    return (V - V.min()) / (V.max() - V.min())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "alexnet", "densenet121"])
def test_rise_is_its_definition(name: str) -> None:
    engine = seeded_engine(name, 64, batch_size=16)
    x, y = pictures(64), likely(engine)
    options = MethodOptions(rise_masks=40, seed=4)
    ours = make_method("rise", engine.backbone, options=options)(engine, engine.forward(x), y)
    masks = all_masks(40, 64, seed=4)
    expected = torch.stack([transcribed(engine, x[b], int(y[b]), masks) for b in (0, 1)])
    difference = float((ours.saliency - expected).abs().max())
    print(f"largest difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize(("cells", "p"), [(7, 0.5), (3, 0.2)])
def test_rise_whatever_the_batch(batch_size: int, cells: int, p: float) -> None:
    engine = Engine(tiny_backbone(), device="cpu", batch_size=batch_size)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([2, 0, 1])
    batches: list[int] = []
    engine.backbone.network.register_forward_pre_hook(
        lambda _, given: batches.append(len(given[0]))
    )
    seen = engine.forward(x)
    batches.clear()
    maps = Rise(10, cells, p, seed=9)(engine, seen, y)
    assert sum(batches) == 30
    assert len(batches) == -(-30 // batch_size), "full batches across pictures"
    masks = all_masks(10, 32, cells, p, seed=9)
    expected = torch.stack([transcribed(engine, x[b], int(y[b]), masks, p) for b in range(3)])
    torch.testing.assert_close(maps.saliency, expected, atol=1e-5, rtol=0)


def test_the_seed_fixes_the_masks() -> None:
    engine = Engine(tiny_backbone(), device="cpu", batch_size=4)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen, y = engine.forward(x), torch.tensor([2, 0])
    first, again, other = (Rise(8, seed=s)(engine, seen, y).saliency for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)


def test_the_papers_numbers_of_masks() -> None:
    for name, masks in (("vgg11", 4000), ("mobilenet_v2", 8000)):
        backbone = load_backbone(name, "none")
        assert make_method("rise", backbone).forward_passes == masks
        few = make_method("rise", backbone, options=MethodOptions(rise_masks=5), seed=3)
        assert few.params == {"masks": 5, "cells": 7, "p": 0.5, "seed": 3}


@pytest.mark.parametrize(
    "options", [{"rise_masks": 0}, {"rise_cells": 0}, {"rise_p": 0.0}, {"rise_p": 1.5}]
)
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(LcamError, match=str(next(iter(options.values())))):
        make_method("rise", tiny_backbone(), options=MethodOptions(**options))


_MEMORY = """
import resource, torch
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.networks.network import Network
from lcam_cli.methods.rise import Rise
network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 4, 16, 16), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
)
engine = Engine(Backbone(Network(network, "tiny", "none"), "0"), device="cpu")
seen = engine.forward(torch.rand(2, 3, 224, 224))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Rise(8000)(engine, seen, torch.tensor([0, 1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_eight_thousand_masks_are_never_held() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # Held at once they would take 1.6 GB.
    assert int(done.stdout) < 500 * 1024, done.stdout
