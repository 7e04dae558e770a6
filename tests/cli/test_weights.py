"""Weights through the real command: what is said of them, and finding them again."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from torchvision.models import get_model

from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.networks.registry import load_network
from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import tiny_network

OWN = """
import torch
from tests.tiny import tiny_network

def build():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3),
    )

def tiny():
    return tiny_network()
"""
SMALL = ("--image-size", "32", "--method", "gradcam")

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 3)
    return tmp_path


def _weights(path: str) -> tuple[str, str]:
    with h5py.File(path) as file:
        return str(file.attrs["weights"]), str(file.attrs["weights_file"])


def test_a_network_with_batch_norm_as_its_function_returns_it(folder: Path, lcam: Lcam) -> None:
    for out in ("a.h5", "b.h5"):
        done = lcam("explain", "photos", "--backbone", "own.py:build", *SMALL, "--out", out)
        assert done.code == 0, done.err
    assert _weights("a.h5") == _weights("b.h5")
    assert _weights("a.h5")[0].startswith("sha256:")
    done = lcam("explain", "photos", "--backbone", "own.py:build", "--weights", "none", *SMALL)
    assert done.code == 0, done.err
    with MapsFile(Path("a.h5"), None) as own, MapsFile(Path("maps.h5"), None) as none:
        assert own.paths() == none.paths()
    with h5py.File("a.h5") as own, h5py.File("maps.h5") as none:
        assert (own["saliency"][:] == none["saliency"][:]).all()
    done = lcam("evaluate", "a.h5", "--backbone", "own.py:build", "--nu", "50")
    assert done.code == 0, done.err


def test_the_state_dict_that_was_taken_is_found_again(folder: Path, lcam: Lcam) -> None:
    averaged = {k: v + 0.1 for k, v in tiny_network().state_dict().items()}
    torch.save({"model": tiny_network().state_dict(), "model_ema": averaged}, "both#1.pth")
    own = ("--backbone", "own.py:tiny")
    for key, taken in (("", "model_ema"), ("#model", "model")):
        done = lcam("explain", "photos", *own, "--weights", f"both#1.pth{key}", *SMALL)
        assert done.code == 0, done.err
        assert ("using model_ema, which is averaged" in done.err) is not bool(key)
        assert _weights("maps.h5")[1] == f"{folder}/both#1.pth#{taken}"
        done = lcam("evaluate", "maps.h5", *own, "--nu", "50")
        assert done.code == 0, done.err
        assert "state dicts" not in done.err
        Path("maps.h5").rename(f"{taken}.h5")
    # The other is another network.
    done = lcam("evaluate", "model.h5", *own, "--weights", "both#1.pth", "--nu", "50")
    assert done.code == 2
    assert "was made with weights sha256:" in done.err
    Path("both#1.pth").rename("moved.pth")
    done = lcam("evaluate", "model.h5", *own, "--nu", "50")
    assert done.code == 2
    assert "no longer at" in done.err
    done = lcam("evaluate", "model.h5", *own, "--weights", "moved.pth#model", "--nu", "50")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_googlenets_input_is_told_and_can_be_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever became of the auxiliary heads, the network is the same."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    trained = get_model("googlenet", weights=None, init_weights=False)
    trained.fc = torch.nn.Linear(1024, 3)  # only this one was replaced
    state = trained.state_dict()
    bare = {k: v for k, v in state.items() if not k.startswith("aux")}
    x = torch.rand(1, 3, 224, 224)
    trained.eval().transform_input = True
    with torch.no_grad():
        wanted = trained(x)
        for content in (state, bare, {"state_dict": {f"module.{k}": v for k, v in state.items()}}):
            caplog.clear()
            torch.save(content, "w.pt")
            assert torch.equal(load_network("googlenet", "w.pt").module(x), wanted)
            assert len(caplog.records) == 1
        # The lines that it names leave the input alone.
        build = caplog.text.split('"')[3]
        Path("net.py").write_text(f"import torchvision\n{build}\n")
        trained.transform_input = False
        assert torch.equal(load_network("net.py:build", "w.pt").module(x), trained(x))


def test_networks_that_compute_as_they_are_built_load_from_files(tmp_path: Path) -> None:
    own = get_model("regnet_y_400mf", weights=None, num_classes=3).eval()
    torch.save(own.state_dict(), tmp_path / "w.pt")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        loaded = load_network("regnet_y_400mf", str(tmp_path / "w.pt"))
        assert torch.equal(loaded.module(x), own(x))
