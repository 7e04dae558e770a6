"""torchvision's classifiers, with weights of its own and from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
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


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "densenet121", "googlenet"])
def test_weights_for_other_channels_exchange_the_first_layer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    own = {"init_weights": False, "transform_input": False} if name == "googlenet" else {}
    model = get_model(name, weights=None, num_classes=3, **own).eval()
    path, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, last = path.rpartition(".")
    layer = nn.Conv2d(
        *(2, first.out_channels, first.kernel_size, first.stride, first.padding),
        bias=first.bias is not None,
    )
    setattr(model.get_submodule(parent), last, layer)
    torch.save(model.state_dict(), tmp_path / "two.pt")
    backbone = load_backbone(name, str(tmp_path / "two.pt"))
    assert backbone.preprocess.input_shape == (2, 224, 224)
    assert sum("for images of 2 channels" in r.message for r in caplog.records) == 1
    assert not any("transform_input" in r.message for r in caplog.records)
    (note,) = backbone.notes
    assert note.startswith(f"{name}: images are normalised with mean 0.449")
    x = torch.rand(1, 2, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), model(x), rtol=1e-3, atol=1e-4)


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
    with pytest.raises(
        LcamError, match="cannot download the weights IMAGENET1K_V1 of squeezenet1_1"
    ):
        load_network("squeezenet1_1")
