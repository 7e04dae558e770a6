"""What is said of a ``--backbone`` that no source takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network

FILES = {
    "mine.keras": ("is a Keras model", 'model.export("mine.onnx", format="onnx")'),
    "mine.h5": ("is an HDF5 file", "--backbone mine.onnx"),
    "last.ckpt": ("is a file of weights", "--backbone NAME (or file.py:function) --weights "),
    "model.safetensors": ("is a file of weights", "--weights "),
    "learner.pkl": ("is a pickle", "--backbone file.py:function"),
    "net.py": ("is Python code", "net.py:function"),
    "photo.jpg": ("is not a file that can be a backbone", "FILE.onnx, FILE.pt2"),
}


def refused(name: str | Path) -> LcamError:
    with pytest.raises(LcamError) as caught:
        load_network(str(name))
    return caught.value


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_called_by_what_it_is_with_the_way_on(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    kind, hint = FILES[name]
    error = refused(path)
    assert error.what.startswith(f"{path} {kind}")
    assert hint in error.hint


@pytest.mark.parametrize("name", ["mine.keras", "last.ckpt", "mine.onnx", "mine.pt2"])
def test_a_file_that_is_not_there_is_said_to_be_missing(name: str, tmp_path: Path) -> None:
    error = refused(tmp_path / name)
    assert error.what == f"no such file: {tmp_path / name}"
    assert ".pth" not in error.hint


@pytest.mark.parametrize(
    ("fill", "what"),
    [
        (lambda folder: (folder / "model.safetensors").touch(), "is a folder without config.json"),
        (lambda folder: (folder / "saved_model.pb").touch(), "is a TensorFlow SavedModel"),
    ],
)
def test_a_folder_says_what_it_lacks(
    fill: Callable[[Path], None], what: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    error = refused(tmp_path)
    assert error.what == f"{tmp_path} {what}, not a backbone"
    assert error.hint


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".pt", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    assert refused(name).hint


def test_a_file_of_weights_is_told_what_it_fits(tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=7)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    path = tmp_path / "mine.pt"
    torch.save({"model": state, "epoch": 3}, path)
    hint = refused(path).hint
    assert hint == f"it fits squeezenet1_1: --backbone squeezenet1_1 --weights {path}"


def test_a_file_of_code_is_told_its_functions_and_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "net.py", tmp_path / "trace"
    path.write_text(f"open({str(trace)!r}, 'w')\ndef build(): pass\ndef other(): pass\n")
    assert f"--backbone {path}:build (or other)" in refused(path).hint
    path.write_text("class Net: pass\n")
    assert "`def build(): return Net()`" in refused(path).hint
    path.write_text("def (")
    assert f"--backbone {path}:function" in refused(path).hint
    assert not trace.exists()
