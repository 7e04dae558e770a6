"""Files that people take for weights: each is called by what it is."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.file import WeightsFile
from tests.tiny import tiny_network


def _scripted(path: Path) -> None:
    torch.jit.script(tiny_network()).save(str(path))


def _traced(path: Path) -> None:
    torch.jit.trace(tiny_network(), torch.rand(1, 3, 32, 32)).save(str(path))


def _exported(path: Path) -> None:
    picture = torch.rand(1, 3, 32, 32)
    program = torch.export.export(tiny_network().eval(), (picture,), strict=False)
    torch.export.save(program, path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)


def _zipped(path: Path) -> None:
    torch.save(tiny_network().state_dict(), path.with_suffix(".pth"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_suffix(".pth"), "weights.pth")


def _tarred(path: Path) -> None:
    torch.save(tiny_network().state_dict(), path.with_suffix(".pth"))
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_suffix(".pth"), "weights.pth")


def _hdf5(path: Path) -> None:
    h5py.File(path, "w").close()


def _keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")


def _saved_model(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").touch()


def _text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n"
PAGE = b"<!DOCTYPE html>\n<html><body>404</body></html>"
KINDS: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "scripted": ("w.pt", _scripted, "is TorchScript", "torch.jit.load('w.pt')"),
    "traced": ("w.pt", _traced, "is TorchScript", "--backbone file.py:function"),
    "exported": ("w.pt", _exported, "is an exported program", "w.pt2"),
    "zipped": ("w.pt", _zipped, "is a compressed zip", "unpack it"),
    "tarred": ("w.tar", _tarred, "is a tar archive", "unpack it"),
    "gzipped": ("w.pt.gz", _text(gzip.compress(b"x")), "compressed with gzip", "unpack it"),
    "pointer": ("w.pt", _text(POINTER), "a pointer of Git LFS", "git lfs pull"),
    "pointer_st": ("w.safetensors", _text(POINTER), "a pointer of Git LFS", "git lfs pull"),
    "page": ("w.pt", _text(PAGE), "is a web page", "download"),
    "page_st": ("w.safetensors", _text(PAGE), "is a web page", "download"),
    "hdf5": ("w.h5", _hdf5, "is an HDF5 file", "Keras"),
    "keras": ("w.keras", _keras, "is a Keras model", "mine.onnx"),
    "saved_model": ("folder", _saved_model, "is a TensorFlow SavedModel", "state_dict"),
    "frozen": ("w.pb", _text(b"\n\x12"), "is a TensorFlow file", "state_dict"),
    "onnx": ("w.onnx", _text(b"\x08\x07\x12\x07pytorch"), "is an ONNX model", "--backbone"),
    "onnx_pt": ("w.pt", _text(b"\x08\x07\x12\x07pytorch"), "is an ONNX model", "--backbone"),
    "array": ("w.npy", lambda path: np.save(path, np.ones(3)), "is a NumPy array", "state_dict"),
    "arrays": ("w.npz", lambda path: np.savez(path, a=np.ones(3)), "holds NumPy arrays", "save"),
    "folder": ("folder.pt", lambda path: path.mkdir(), "is a folder", ".safetensors"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_file_is_called_by_what_it_is(tmp_path: Path, kind: str) -> None:
    name, write, what, hint = KINDS[kind]
    write(tmp_path / name)
    with pytest.raises(LcamError) as caught:
        WeightsFile(str(tmp_path / name))
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value.what) + caught.value.hint


def test_numpy_arrays_under_names_are_no_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": np.ones(3)}}, tmp_path / "w.pkl")
    with pytest.raises(LcamError, match="no tensors, only NumPy arrays") as caught:
        WeightsFile(str(tmp_path / "w.pkl"))
    assert "torch.from_numpy" in caught.value.hint
