"""Weights that do not fit: what differs is said by its kind, with the way on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from lcam_cli.networks.weights.file import load_weights
from tests.transformers import tiny_vit


def _refused(path: Path, state: dict[str, Any], name: str) -> LcamError:
    torch.save(state, path)
    with pytest.raises(LcamError, match=f"weights .* do not fit {name}: ") as caught:
        load_network(name, str(path))
    assert "\n" not in caught.value.what + caught.value.hint
    return caught.value


HEADS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "dropout": (
        lambda: nn.Sequential(nn.Dropout(), nn.Linear(512, 3)),
        "fc.1.weight is (3, 512) there, fc.weight (1000, 512) here; 3 classes",
        "nn.Sequential(nn.Dropout(), nn.Linear(512, 3))",
    ),
    "two": (
        lambda: nn.Sequential(
            nn.Linear(512, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
        ),
        "fc.3.weight is (2, 8) there, fc.weight (1000, 512) here; 2 classes",
        "nn.Sequential(nn.Linear(512, 8, bias=False), nn.BatchNorm1d(8), nn.Dropout(), "
        "nn.Linear(8, 2))",
    ),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_only_the_head(tmp_path: Path, kind: str, prefix: str) -> None:
    build, what, layers = HEADS[kind]
    model = get_model("resnet18", weights=None)
    model.fc = build()
    state = {prefix + k: v for k, v in model.state_dict().items()}
    error = _refused(tmp_path / "w.pt", state, "resnet18")
    assert f"only the head differs: {what}" in error.what
    assert f"network.fc = {layers}" in error.hint
    # The lines that the hint gives are the network: its names take the file.
    (imports, build_line) = re.findall(r'"([^"]+)"', error.hint)
    (tmp_path / "net.py").write_text(f"{imports}\n{build_line}\n")
    network = load_network(f"{tmp_path}/net.py:build", str(tmp_path / "w.pt"))
    for key, value in model.state_dict().items():
        assert torch.equal(network.module.state_dict()[key], value)


def test_the_head_of_a_function_is_set_in_the_function(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torchvision\n"
        "def build(): return torchvision.models.squeezenet1_1(num_classes=5)\n"
        "def linear(): return torchvision.models.resnet18()\n"
    )
    model = get_model("resnet18", weights=None, num_classes=3)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(LcamError, match=r"only the head differs: fc.weight is \(3, 512\)") as told:
        load_network(f"{tmp_path}/net.py:linear", str(tmp_path / "w.pt"))
    assert "in the function, set network.fc = nn.Linear(512, 3)" in told.value.hint


def test_a_file_without_a_head(tmp_path: Path) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    error = _refused(tmp_path / "w.pt", state, "resnet18")
    assert "everything but the head fits: the file has no fc.weight (1000, 512)" in error.what


def test_only_the_input(tmp_path: Path) -> None:
    model = get_model("resnet18", weights=None)
    model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(LcamError, match="only the input differs") as caught:
        load_weights(get_model("resnet18", weights=None), str(tmp_path / "w.pt"), "own")
    error = caught.value
    assert "only the input differs: conv1.weight is (64, 1, 7, 7) there" in error.what
    assert "for images with 1 channel" in error.what
    assert "conv1 = nn.Conv2d(1, 64, (7, 7), (2, 2), (3, 3), bias=False)" in error.hint


def test_only_the_size(tmp_path: Path) -> None:
    state = dict(tiny_vit().state_dict())
    state["encoder.pos_embedding"] = torch.rand(1, 10, 12)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(LcamError, match="only the image's size differs") as caught:
        load_weights(tiny_vit(), str(tmp_path / "w.pt"), "own")
    assert "(1, 10, 12) there, (1, 17, 12) here" in caught.value.what
    assert "--image-size" in caught.value.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_network(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    try:
        from torch.ao.quantization import quantize_dynamic

        quantised = quantize_dynamic(model, {nn.Linear})
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"this PyTorch quantises no longer: {error}")
    torch.save(quantised.state_dict(), tmp_path / "w.pt")
    with pytest.raises(LcamError, match="they are for a quantised network"):
        load_weights(model, str(tmp_path / "w.pt"), "own")
    # The same network quantised takes them, whatever they are kept as.
    load_weights(quantize_dynamic(model, {nn.Linear}), str(tmp_path / "w.pt"), "own")


@pytest.mark.parametrize(
    ("there", "here"), [("resnet34", "resnet18"), ("resnet18", "vgg11"), ("vgg11_bn", "vgg11")]
)
def test_another_of_torchvisions_is_named(tmp_path: Path, there: str, here: str) -> None:
    with torch.device("meta"):
        model = get_model(there, weights=None, num_classes=3)
    state = {k: torch.zeros(()).expand(v.shape) for k, v in model.state_dict().items()}
    error = _refused(tmp_path / "w.pt", state, here)
    assert error.hint == f"they are for {there}: pass --backbone {there}"


def test_another_architecture(tmp_path: Path) -> None:
    state = {"a.weight": torch.rand(2, 2), "b.weight": torch.rand(3)}
    error = _refused(tmp_path / "w.pt", state, "squeezenet1_1")
    assert "missing" in error.what
    assert "another architecture" in error.hint
