"""Files from strangers: read without running anything in them."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from lcam_cli.networks.weights.checkpoint import read_checkpoint, sha256_of_file
from lcam_cli.networks.weights.file import WeightsFile, load_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class _Attack:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, zipped: bool
) -> None:
    path, target = tmp_path / "evil.pt", tmp_path / "ran"
    content = {"state_dict": STATE, "extra": _Attack(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(LcamError, match=r"would run .*system"):
        read_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the attack is real: this is what a careless tool does
    assert target.exists()


def test_a_bare_pickle_is_refused_too(tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Attack(target)))
    with pytest.raises(LcamError):
        read_checkpoint(path)
    assert not target.exists()


def test_hyper_parameters_of_training_frameworks_are_read_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lightning.ckpt"
    options = argparse.Namespace(lr=0.1, folder=Path("/data"))
    torch.save({"state_dict": STATE, "hyper_parameters": {"options": options}}, path)
    content = read_checkpoint(path)
    assert torch.equal(content["state_dict"]["a.weight"], STATE["a.weight"])
    assert not isinstance(content["hyper_parameters"]["options"], argparse.Namespace)


@pytest.mark.parametrize("wrap", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "model."])
def test_wrappers_around_a_state_dict_come_off(tmp_path: Path, wrap: str, prefix: str) -> None:
    state: dict[str, object] = {prefix + k: v for k, v in STATE.items()}
    path = tmp_path / "weights.pt"
    torch.save({wrap: state, "epoch": 3} if wrap else state, path)
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2)})
    load_weights(module, str(path), "own")
    assert torch.equal(module["a"].weight, STATE["a.weight"])
    assert torch.equal(module["a"].bias, STATE["a.bias"])


def _weights(path: Path) -> WeightsFile:
    return WeightsFile(str(path))


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("no.pt", "no.safetensors"):
        with pytest.raises(LcamError, match="no such file"):
            _weights(tmp_path / name)
    for name in ("text.pt", "text.safetensors", "empty.pt", "empty.safetensors"):
        (tmp_path / name).write_text("hello" if "text" in name else "")
        with pytest.raises(LcamError, match=f"cannot read .*{name}"):
            _weights(tmp_path / name)
    (tmp_path / "photo.JPEG").write_bytes(b"\xff\xd8\xff\xe0 a picture")
    with pytest.raises(LcamError, match="no weights file, or a damaged one") as caught:
        _weights(tmp_path / "photo.JPEG")
    assert "weights_only" not in str(caught.value)  # PyTorch's advice, to run what is in there
    assert "a state dict written by torch.save" in caught.value.hint
    torch.save(STATE, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-200])
    with pytest.raises(LcamError, match="cannot read"):
        _weights(tmp_path / "cut.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(LcamError, match="not a state dict"):
        _weights(tmp_path / "tensor.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(LcamError, match="no tensors"):
        _weights(tmp_path / "none.pt")


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


def test_weights_that_do_not_fit_say_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    state = get_model("squeezenet1_1", weights=None).state_dict()
    state["features.0.weight"] = state["features.0.weight"][:8]
    state["extra"] = torch.zeros(1)
    del state["features.3.squeeze.bias"]
    torch.save(state, path)
    with pytest.raises(LcamError) as caught:
        load_network("squeezenet1_1", str(path))
    for part in (
        "1 missing (e.g. features.3.squeeze.bias)",
        "1 unexpected (e.g. extra)",
        "(8, 3, 3, 3) there",
    ):
        assert part in caught.value.what
    with pytest.raises(LcamError, match=r"do not fit resnet18.*missing"):
        load_network("resnet18", str(path))


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


def test_users_own_code_as_backbone(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\n"
        "def net():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(),\n"
        "        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3))\n"
        "def text():\n"
        "    return 'no module'\n"
    )
    first = load_backbone(f"{file}:net", "none", seed=1)
    assert first.num_classes == 3
    assert first.identity.layer == "1"
    assert load_backbone(f"{file}:net", "none", seed=1).identity == first.identity
    torch.save(first.network.state_dict(), tmp_path / "own.pt")
    assert load_backbone(f"{file}:net", str(tmp_path / "own.pt")).identity.weights.startswith("sha")
    assert load_backbone("tests.tiny:tiny_network", "DEFAULT").num_classes == 4
    with pytest.raises(LcamError, match="returned a str"):
        load_backbone(f"{file}:text")
    with pytest.raises(LcamError, match="has no function 'nett'") as caught:
        load_backbone(f"{file}:nett")
    assert "net" in caught.value.hint
    with pytest.raises(LcamError, match="no such file"):
        load_backbone(f"{tmp_path}/none.py:net")
    with pytest.raises(LcamError, match="importing 'no_such_package' failed"):
        load_backbone("no_such_package:net")
