"""torchvision's classifiers, with weights of its own and from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from lcam_cli.networks.weights.checkpoint import sha256_of_file


def test_fine_tuned_weights_bring_their_number_of_classes(tmp_path: Path) -> None:
    model = get_model("mobilenet_v3_small", weights=None, num_classes=7).eval()
    path = tmp_path / "mine.safetensors"
    save_file({f"module.{k}": v for k, v in model.state_dict().items()}, path)
    network = load_network("mobilenet_v3_small", str(path))
    x = torch.rand(1, 3, 224, 224)
    assert torch.equal(network.module(x), model(x))
    assert network.weights == sha256_of_file(path)
    assert network.class_names == []
    assert load_backbone("mobilenet_v3_small", str(path)).num_classes == 7


def test_pretrained_weights_come_through_torchvisions_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    model = get_model("squeezenet1_1", weights=None).eval()
    torch.save(model.state_dict(), cache / "squeezenet1_1-b8a52dc0.pth")
    network = load_network("squeezenet1_1")
    x = torch.rand(1, 3, 224, 224)
    assert torch.equal(network.module(x), model(x))
    assert network.weights == "IMAGENET1K_V1"
    assert network.class_names[1] == "goldfish"


def test_a_download_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(LcamError, match="cannot get the weights IMAGENET1K_V1 of squeezenet1_1"):
        load_network("squeezenet1_1")
