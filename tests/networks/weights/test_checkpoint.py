"""Files from strangers: read without running anything in them."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from lcam_cli.networks.weights.checkpoint import read_checkpoint
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
    (tmp_path / "photo.JPEG").write_bytes(b"\xff\xd8\xff\xe0 an image")
    with pytest.raises(LcamError, match="not a weights file, or it is damaged") as caught:
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
