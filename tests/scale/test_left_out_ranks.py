"""Several ranks and images without scores, or flat maps: told once, and the same result."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from PIL import Image

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.methods.attention_file import FILE_NAME
from tests.scale.starting import torchrun
from tests.tiny import write_pictures

OWN = """
import torch
from torch import nn
from tests.tiny import Standardised, tiny_network


def standardised():
    return Standardised().eval()


def against():
    network = tiny_network()
    with torch.no_grad():
        network[-1].weight.copy_(-network[-1].weight.abs() - 0.1)
    return network.eval()


def nothing():
    network = tiny_network()
    with torch.no_grad():
        network[-1].weight.fill_(torch.nan)
    return network.eval()
"""
NETWORK = ("--weights", "none", "--image-size", "32", "--device", "cpu", "--workers", "1")
REASON = "the classifier's scores are not finite on this image"

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images, and three of one colour among them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 10)
    for i in (1, 4, 8):
        Image.new("RGB", (50, 40), (i * 9,) * 3).save(tmp_path / "photos" / f"00{i}b.png")
    return tmp_path


def words(command: str, net: str, *more: str) -> list[str]:
    return [command, "photos", "--backbone", f"own.py:{net}", *NETWORK, *more]


def test_training_counts_alike_on_all_ranks(folder: Path) -> None:
    from safetensors.torch import load_file

    settings = ("--recipe", "paper", "--epochs", "2", "--batch-size", "4", "--out")
    assert run(lcam_app(), words("train", "standardised", *settings, "one")) == 3
    agent = torchrun(folder, words("train", "standardised", *settings, "two"), 2)
    _, err = agent.communicate()
    for i in (1, 4, 8):
        assert err.count(f"00{i}b.png: {REASON}") == 1, err
    assert "3 of the inputs are skipped" in err
    one, two = (load_file(folder / name / FILE_NAME) for name in ("one", "two"))
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=1e-5, atol=1e-5)
    agent = torchrun(folder, words("train", "nothing", *settings, "none"), 2)
    _, err = agent.communicate()
    assert "the classifier's scores are not finite on any of the 13 images" in err


def test_explaining_joins_what_is_left_out_and_what_is_flat(folder: Path) -> None:
    settings = ("--method", "gradcam", "--batch-size", "2", "--out")
    agent = torchrun(folder, words("explain", "standardised", *settings, "maps.h5"), 2)
    _, err = agent.communicate()
    assert err.count(REASON) == 3, err
    with h5py.File("maps.h5") as file:
        assert (len(file["path"]), len(file["skipped/path"])) == (10, 3)
        assert file.attrs["flat_rows"] == 0
    agent = torchrun(folder, words("explain", "against", *settings, "flat.h5"), 2)
    _, err = agent.communicate()
    assert err.count("flat maps") == 1, err
    assert "(gradcam 13 of 13): no feature of layer 3 raises the score of the class" in err
    with h5py.File("flat.h5") as file:
        assert file.attrs["flat_rows"] == 13
        assert len(file["classes"]) == 4
    agent = torchrun(folder, words("explain", "nothing", *settings, "none.h5"), 2)
    _, err = agent.communicate()
    assert "the classifier's scores are not finite on any of the 13 images" in err


def test_comparing_tells_of_each_once(folder: Path) -> None:
    settings = ("--methods", "gradcam,layercam", "--nu", "50", "--batch-size", "2")
    agent = torchrun(folder, words("compare", "standardised", *settings, "--format", "json"), 2)
    _, err = agent.communicate()
    for i in (1, 4, 8):
        assert err.count(f"00{i}b.png: {REASON}") == 1, err
    agent = torchrun(folder, words("compare", "nothing", *settings), 2)
    _, err = agent.communicate()
    assert "the classifier's scores are not finite on any of the 13 images" in err
