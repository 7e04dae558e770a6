"""The calls of other libraries on the page, against ``lcam --no-align`` on the same network."""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.cli import job
from tests.cli.job import Lcam
from tests.conftest import ROOT
from tests.docs import small_networks as small
from tests.docs.blocks import blocks_of

PAGE = ROOT / "docs" / "coming-from.md"
HERE = "elsewhere: tests/docs/test_coming_from.py, "
OWN = """
from collections import OrderedDict
from torch import nn
from tests.tiny import tiny_network
def build():
    # As in most networks: convolutions of stride 2 and padding 1, whose cells do not tile.
    network = tiny_network(channels=16)
    network[6].weight.data *= 20  # grad-cam's ε of 1e-7 would swallow tiny gradients
    return nn.Sequential(OrderedDict(features=network[:4], head=network[4:]))
"""
PREPARED = ("--image-size", "32", "--resize", "32", "--map-dtype", "float32")

lcam = job.lcam
folder = small.folder


def code(name: str) -> str:
    (found,) = [block.code for block in blocks_of(PAGE) if block.note == HERE + name]
    return found


def test_every_block_of_the_page_is_run_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for block in blocks_of(PAGE):
        if not block.note.startswith("not run: "):
            assert f'"{block.note.removeprefix(HERE)}"' in tests, block


def words(block: str) -> list[str]:
    program, *words = shlex.split(block.replace("\\\n", " "))
    assert program in ("lcam", "yolo")
    return words


def min_max(maps: np.ndarray) -> np.ndarray:
    """Each map (N, h, w) scaled to [0, 1]."""
    maps = maps - maps.min((1, 2), keepdims=True)
    return np.asarray(maps / maps.max((1, 2), keepdims=True))


class Compared:
    """Maps of two images by ``lcam``, and whatever another library needs for its own."""

    def __init__(self, lcam: Lcam) -> None:
        self.paths = small.photos(32)
        Path("mynet.py").write_text(OWN)
        self.model = runpy.run_path("mynet.py")["build"]().eval()
        self.x = small.prepared(self.paths, small.IMAGENET)
        self.y = self.model(self.x).argmax(1).tolist()
        done = lcam(*words(code("lcam")), *PREPARED)
        assert done.code == 0, done.err
        with h5py.File("maps.h5") as file:
            self.cam, self.V = file["cam"][:], file["saliency"][:]
            assert file["class_index"][:].tolist() == self.y
        assert (self.cam.max((1, 2)) > 0).all(), "a map of zeros would agree with anything"

    def theirs(self, name: str) -> np.ndarray:
        """What the call on the page gives, for one image after the other."""
        found = []
        for i, y in enumerate(self.y):
            names: dict[str, Any] = {"model": self.model, "layer": self.model.features}
            names |= {"x": self.x[i : i + 1].clone().requires_grad_(), "y": y}
            exec(code(name), names)
            found.append(np.asarray(torch.as_tensor(names["maps"]).detach()))
        return np.concatenate(found)


@pytest.fixture
def compared(folder: Path, lcam: Lcam) -> Compared:
    return Compared(lcam)


def test_grad_cam_scales_once_more_after_enlarging(compared: Compared) -> None:
    theirs = compared.theirs("grad-cam")
    np.testing.assert_allclose(min_max(compared.V), theirs, atol=1e-4)
    assert np.abs(compared.V - theirs).max() > 1e-3


def test_torchcam_gives_scaled_cells(compared: Compared) -> None:
    np.testing.assert_allclose(min_max(compared.cam), compared.theirs("torchcam"), atol=1e-4)


def test_captum_gives_cells_unscaled(compared: Compared) -> None:
    theirs = compared.theirs("captum")[:, 0]
    np.testing.assert_allclose(compared.cam, theirs, atol=1e-5 * theirs.max())


def test_without_no_align_the_same_cells_lie_elsewhere(compared: Compared, lcam: Lcam) -> None:
    line = [word for word in words(code("lcam")) if word != "--no-align"]
    done = lcam(*line, *PREPARED, "--out", "placed.h5")
    assert done.code == 0, done.err
    with h5py.File("placed.h5") as file:
        np.testing.assert_allclose(file["cam"][:], compared.cam, rtol=1e-4)
        placed = file["saliency"][:]
    # The first cell's centre is the first pixel, and not the middle of the first 4×4 tile.
    np.testing.assert_allclose(placed[:, 0, 0], min_max(compared.cam)[:, 0, 0], atol=1e-4)
    assert np.abs(placed - compared.V).max() > 0.1


def test_ultralytics_draws_layer_cam(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    import cv2

    paths = small.photos(224)
    yolo = ultralytics.YOLO("yolo11n-cls.yaml")
    small.settle(yolo.model, small.prepared(paths, small.PIXELS))
    yolo.save("best.pt")
    Path("yolo.py").write_text(small.recipe("ultralytics", "python"))
    done = lcam(*words(code("ultralytics lcam")))
    assert done.code == 0, done.err
    drawn = []
    colours = cv2.applyColorMap

    def kept(cam: np.ndarray, *others: Any) -> Any:
        drawn.append(cam)
        return colours(cam, *others)

    monkeypatch.setattr(cv2, "applyColorMap", kept)
    mode, *settings = words(code("ultralytics"))
    options = dict(setting.split("=") for setting in settings)
    assert (mode, options.pop("visualize"), options.pop("imgsz")) == ("predict", "True", "224")
    ultralytics.YOLO(options["model"]).predict(options["source"], imgsz=224, visualize=True)
    with h5py.File("maps.h5") as file:
        cam = torch.from_numpy(file["cam"][:])
    enlarged = interpolate(cam[:, None], (224, 224), mode="bilinear", align_corners=False)[:, 0]
    ours = enlarged / enlarged.amax((1, 2), keepdim=True)
    assert len(drawn) == 2
    assert (np.ptp(drawn, axis=(1, 2)) > 50).all(), "flat maps would agree with anything"
    np.testing.assert_allclose(255 * ours, np.stack(drawn), atol=2)
