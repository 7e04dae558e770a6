"""Files that people take for weights: each is called by what it is, with the way on."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from lcam_cli.errors import LcamError

_SAVE = "save model.state_dict() with torch.save, or as .safetensors, and pass that file"
_DOWNLOAD = "download the file itself again"
# How a file of each kind begins.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the file it points to",
        "get the file itself: git lfs pull",
    ),
    (rb"(?i)\s*(<!doctype html|<html)", "a web page, not the file it describes", _DOWNLOAD),
    (rb"\s*<\?xml", "an XML text, such as a server's error", _DOWNLOAD),
    (
        rb"\x89HDF\r\n\x1a\n",
        "an HDF5 file, such as Keras's weights or lcam's maps",
        "convert Keras weights to a PyTorch state dict and pass that file",
    ),
    (rb"\x1f\x8b", "compressed with gzip", "unpack it and pass the file in it"),
    (rb"BZh\d1AY", "compressed with bzip2", "unpack it and pass the file in it"),
    (rb"\xfd7zXZ\0", "compressed with xz", "unpack it and pass the file in it"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it and pass the file in it"),
    (rb"GGUF", "a GGUF file, of quantised language models", _SAVE),
    (rb"(?s).{4}TFL3", "a TensorFlow Lite model", _SAVE),
    (rb"\x93NUMPY", "a NumPy array", _SAVE),
    (
        rb"(?s)\x08[\x01-\x14].{0,200}(pytorch|onnx|tf2onnx|keras2onnx|skl2onnx)",
        "an ONNX model",
        "",
    ),
    (rb"(?s).{257}ustar", "a tar archive", "unpack it and pass the file in it"),
)
_ONNX_HINT = "pass it as the backbone, with its weights: --backbone FILE.onnx"


def real_path(path: Path) -> Path:
    """Where links lead; where they lead in a circle, the path itself.

    ``Path.resolve`` raises there before Python 3.13.
    """
    return Path(os.path.realpath(path))


def check_is_file(path: Path) -> None:
    """A folder cannot be read; a device or a pipe might never end.

    Raises:
        LcamError: This is no file; a folder that holds a model of another kind is named as such.
    """
    if path.is_file():
        return
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            raise LcamError(f"{path} is a TensorFlow SavedModel", _SAVE)
        if (path / ".metadata").is_file():
            raise LcamError(
                f"{path} is a distributed checkpoint (torch.distributed.checkpoint)",
                "turn it into one file: python -m torch.distributed.checkpoint.format_utils "
                f"dcp_to_torch {path} weights.pt",
            )
        raise LcamError(
            f"{path} is a folder, not a file of weights",
            "pass a .pt, .pth or .safetensors file in it",
        )
    is_network = path.suffix.lower() in (".onnx", ".pt2")
    hint = "check the path" if is_network else "pass the path of a .pt, .pth or .safetensors file"
    raise LcamError(f"no such file: {path}", hint)


def check_kind(path: Path) -> None:
    """Refuse a file that is known not to hold a state dict.

    Raises:
        LcamError: It is something else: the message says what.
    """
    with path.open("rb") as file:
        beginning = file.read(512)
    for pattern, kind, hint in _BEGINNINGS:
        if re.match(pattern, beginning):
            raise LcamError(f"{path} is {kind}", hint or _ONNX_HINT)
    if path.suffix == ".onnx":
        raise LcamError(f"{path} is an ONNX model", _ONNX_HINT)
    if path.suffix in (".pb", ".index", ".meta") or re.search(r"\.data-\d+-of-\d+$", path.name):
        raise LcamError(f"{path} is a TensorFlow file", _SAVE)
    if beginning[:2] == b"PK":
        check_archive(path)
        _check_zip(path)


def check_archive(path: Path) -> None:
    """Refuse a zip that holds more than its own size; ``torch.save`` does not compress.

    Raises:
        LcamError: It is compressed, or its parts overlap.
    """
    entries = _entries(path)
    names = [entry.filename for entry in entries]
    if is_script(names):
        return  # TorchScript compresses its code; nothing of it is read
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise LcamError(
            f"{path} refused: it is a compressed zip, which torch.save does not write",
            "unpack it and pass the .pt, .pth or .safetensors file in it"
            if not any(name.endswith("data.pkl") for name in names)
            else "save the weights with torch.save or as .safetensors",
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise LcamError(
            f"{path} refused: it claims to hold more than it contains",
            "save the weights with torch.save or as .safetensors",
        )


def is_script(names: list[str]) -> bool:
    """Whether a zip with these files is TorchScript's."""
    return any(re.fullmatch(r"([^/]+/)?constants\.pkl", name) for name in names)


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except Exception:  # not a zip, or a damaged one, which the reader will say
        return []


def _check_zip(path: Path) -> None:
    """Call a zip that ``torch.save`` did not write by what it is."""
    names = [entry.filename for entry in _entries(path)]
    if is_script(names):
        raise LcamError(
            f"{path} is TorchScript, a whole network, not a state dict",
            "return it from a function: --backbone file.py:function with "
            f"torch.jit.load({path.name!r}) in it, or save its .state_dict()",
        )
    if any(re.fullmatch(r"([^/]+/)?models/.+\.json", name) for name in names) or any(
        re.fullmatch(r"([^/]+/)?(serialized_exported_program\.json|archive_format)", name)
        for name in names
    ):
        raise LcamError(
            f"{path} is an exported program, a whole network, not a state dict",
            f"pass it as the backbone, with its weights: --backbone {path.with_suffix('.pt2')}",
        )
    if "model.weights.h5" in names:
        raise LcamError(
            f"{path} is a Keras model",
            'export it: model.export("mine.onnx", format="onnx"), and pass --backbone mine.onnx',
        )
    if names and all(name.endswith(".npy") for name in names):
        raise LcamError(f"{path} holds NumPy arrays", _SAVE)
    if names and not any(name.endswith("data.pkl") for name in names):
        raise LcamError(
            f"{path} is a zip that torch.save did not write",
            "unpack it and pass the .pt, .pth or .safetensors file in it",
        )
