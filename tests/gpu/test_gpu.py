"""On a GPU everything is what it is on the CPU, and nothing waits in the middle of a batch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import known_methods, make_method
from tests.gpu.conftest import DEVICE
from tests.methods.seeded import likely, pictures, seeded_engine
from tests.tiny import tiny_backbone, write_pictures

_OPTIONS = MethodOptions(rise_masks=40, rise_cells=4)
_OF_ONE_PASS = ("cam", "gradcam", "gradcam++", "xgradcam", "layercam")


def lcam(*words: object) -> str:
    """Run the command in a process of its own; what it prints."""
    command = [sys.executable, "-m", "lcam_cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def _pictures(count: int = 4, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2))


def _engine(device: str, precision: str) -> Engine:
    return Engine(tiny_backbone(), device=device, precision=precision)


@pytest.fixture
def exact() -> Iterator[None]:
    """Convolutions and products of fp32 as the CPU has them, not of TF32."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, was in zip(switches, before, strict=True):
        switch.allow_tf32 = was


# A rehearsal compares the CPU with itself: a few methods show that the test runs.
_METHODS = [name for name in known_methods() if name != "random"]
if not DEVICE.startswith("cuda"):
    _METHODS = ["gradcam", "rise"]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", _METHODS)
def test_every_method_gives_the_maps_of_the_cpu(name: str, device: str) -> None:
    exact = seeded_engine("resnet18", 64)
    classes, x = likely(exact), pictures(64)
    method = make_method(name, exact.backbone, options=_OPTIONS)
    expected = method(exact, exact.forward(x), classes).saliency
    engine = Engine(exact.backbone, device=device, precision="fp32", align=False)
    x, classes = x.to(device), classes.to(device)
    found = method(engine, engine.forward(x), classes).saliency.cpu()
    assert expected.amax() > 0.5, "a map of zeros would agree with anything"
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", _OF_ONE_PASS)
def test_half_precision_explains_as_fp32_does(name: str, precision: str, gpu: str) -> None:
    found = []
    for one in ("fp32", precision):
        engine = _engine(gpu, one)
        forward = engine.forward(_pictures().to(gpu))
        method = make_method(name, engine.backbone, options=_OPTIONS)
        maps = method(engine, forward, torch.zeros_like(forward.predicted)).saliency
        assert forward.A.dtype == forward.logits.dtype == maps.dtype == torch.float32
        found.append(maps.flatten(1).cpu().numpy())
    for one, other in zip(*found, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.99


@pytest.mark.parametrize("name", _OF_ONE_PASS)
def test_a_batch_is_begun_without_waiting_for_the_gpu(name: str, gpu: str) -> None:
    engine = seeded_engine("resnet18", 64)
    engine = Engine(engine.backbone, device=gpu)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    method = make_method(name, engine.backbone, options=_OPTIONS)

    def begin() -> None:
        forward = engine.forward(engine.pixels(images))
        method(engine, forward, forward.predicted)

    begin()  # the grid is found, kernels are chosen
    torch.cuda.set_sync_debug_mode("error")
    try:
        begin()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_that_runs_out_halves_the_batch(gpu: str) -> None:
    engine = Engine(seeded_engine("resnet18", 224).backbone, device=gpu, precision="fp32")
    x = _pictures(64, 224).to(gpu)
    expected = engine.logits(x[:2])
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**27) / total)
    try:
        logits = engine.logits(x)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.limit is not None
    assert engine.limit < 64
    torch.testing.assert_close(logits[:2], expected, atol=1e-2, rtol=1e-2)


@pytest.mark.slow
def test_the_commands_say_what_they_say_on_the_cpu(device: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 12)
    of_network = ("--backbone", "resnet18", "--weights", "none", "--precision", "fp32")
    found, scores = {}, {}
    for one in ("cpu", device):
        out = tmp_path / f"{one.replace(':', '')}.h5"
        lcam(
            *("explain", tmp_path / "photos", *of_network, "--method", "gradcam"),
            *("--device", one, "--out", out, "--quiet"),
        )
        with h5py.File(out) as file:
            found[one] = file["saliency"][:].astype(float), file["predicted_index"][:]
        printed = lcam("evaluate", out, "--device", one, "--format", "json", "--quiet")
        scores[one] = json.loads(printed)["rows"][0]["nu"]
    (maps, classes), (expected, expected_classes) = found[device], found["cpu"]
    assert (classes == expected_classes).mean() > 0.9, "random weights have ties"
    same = classes == expected_classes
    np.testing.assert_allclose(maps[same], expected[same], atol=0.02)
    for nu, one in scores[device].items():
        assert abs(one["ad"] - scores["cpu"][nu]["ad"]) < 2.0


@pytest.mark.slow
def test_training_on_it_stops_and_goes_on(device: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 16)
    command = (
        *("train", tmp_path / "photos", "--backbone", "resnet18", "--weights", "none"),
        *("--device", device, "--epochs", "1", "--batch-size", "4", "--quiet"),
    )
    lcam(*command, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "attention.safetensors").is_file()
    out = tmp_path / "maps.h5"
    lcam(
        *("explain", tmp_path / "photos", "--attention", tmp_path / "run"),
        *("--device", device, "--out", out, "--overlays", tmp_path / "overlays", "--quiet"),
    )
    with h5py.File(out) as file:
        assert np.isfinite(file["saliency"][:].astype(float)).all()
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == 16
