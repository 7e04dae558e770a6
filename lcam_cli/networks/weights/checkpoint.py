"""Reading tensors out of files from strangers, without running anything in them.

``.safetensors`` holds tensors and text only. Pickles (``.pt``, ``.pth``, ``.ckpt``) are read by
PyTorch's restricted unpickler (``weights_only=True``), which builds tensors and plain containers
and refuses everything else. What it refuses is read as data (``weights.torch_save``): a NumPy
number or a framework's options are described instead of made, and a file that would run a function
is refused. What a file says of its sizes is held against the file itself, so that a small one
cannot ask for more memory than it fills.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.file_kinds import check_is_file, check_kind
from lcam_cli.networks.weights.pickles import OpaqueObject
from lcam_cli.networks.weights.torch_save import read_as_data

# A table beside the parts that a large state dict is saved in: which part holds which tensor.
_INDEX = ".index.json"
_SAVE = "save model.state_dict() and pass that file"


def sha256_of_file(path: Path) -> str:
    """Return ``"sha256:…"`` of the file's bytes; for the table of a file in parts, of all of them.

    Raises:
        LcamError: The file cannot be read.
    """
    check_is_file(path)
    try:
        digest = _digest(path)
        if path.name.endswith(_INDEX):
            parts = sorted(set(_parts(path).values()))
            digests = "".join(_digest(part) for part in parts)
            digest = hashlib.sha256((digest + digests).encode()).hexdigest()
    except OSError as error:
        raise LcamError(
            f"cannot read {path}: {error.strerror or error}", "pass a file that exists"
        ) from None
    return f"sha256:{digest}"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as a dictionary, executing nothing.

    Args:
        path: A ``.safetensors`` file, or anything ``torch.save`` wrote.

    Returns:
        What the file holds at its top level; tensors are on the CPU. What is neither a tensor nor
        plain data is an :class:`~lcam_cli.networks.weights.pickles.OpaqueObject`.

    Raises:
        LcamError: The file is missing, damaged, of another kind, or would run code.
    """
    content = read_content(path)
    if not isinstance(content, Mapping):
        kind = content.of if isinstance(content, OpaqueObject) else type(content).__name__
        raise LcamError(f"{path} holds a {kind}, not a state dict", _SAVE)
    return dict(content)


def read_content(path: Path) -> object:
    """Read what a file of weights holds, whatever that is; as :func:`read_checkpoint`.

    Raises:
        LcamError: As :func:`read_checkpoint`, but for what the file holds.
    """
    check_is_file(path)
    if path.name.endswith(_INDEX):
        return _read_parts(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    check_kind(path)
    return _read_pickle(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- safetensors, and files in parts --------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        check_kind(path)  # a web page or a pointer under this name
        raise LcamError(
            f"cannot read {path}: {error}", "download the file again: it is damaged"
        ) from None


def _parts(path: Path) -> dict[str, Path]:
    """Which file beside the table ``path`` holds which tensor.

    Raises:
        LcamError: It is no such table, or names files elsewhere.
    """
    try:
        table = json.loads(path.read_text("utf-8"))["weight_map"]
        parts = {str(name): str(file) for name, file in table.items()}
    except Exception as error:  # whatever a damaged file can raise
        raise LcamError(
            f"cannot read {path}: {type(error).__name__}: {error}",
            "pass the index of a state dict saved in parts",
        ) from None
    for file in set(parts.values()):
        # A file from a stranger does not choose what else is read.
        if not re.fullmatch(r"[\w.-]+\.(safetensors|bin|pt|pth)", file):
            raise LcamError(
                f"{path} names {file!r}, which is not a weights file in its folder",
                "download the whole folder again",
            )
        check_is_file(path.parent / file)
    return {name: path.parent / file for name, file in parts.items()}


def _read_parts(path: Path) -> dict[str, object]:
    state: dict[str, object] = {}
    parts = _parts(path)
    for part in sorted(set(parts.values())):
        state |= read_checkpoint(part)
    if missing := [name for name in parts if name not in state]:
        raise LcamError(f"the parts of {path} lack {missing[0]}", "download the whole folder again")
    return state


# --- pickles --------------------------------------------------------------------------------------


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():  # on protocols and old storages: nothing to act on
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        refusal = error
    try:
        content, would_run = read_as_data(path)
    except Exception:  # as above
        raise _unreadable(path, refusal) from None
    if would_run:
        raise LcamError(
            f"{path} refused: unpickling it would run {', '.join(sorted(would_run)[:3])}",
            "save only the state dict (torch.save(model.state_dict(), …)), or use .safetensors",
        )
    return content


def _unreadable(path: Path, error: Exception) -> LcamError:
    """Tell why PyTorch could not read a file, without its advice to read it unsafely."""
    damaged = re.search(r"weights[_ ]only|zip archive", str(error), re.IGNORECASE)
    if damaged or not isinstance(error, RuntimeError | OSError):
        return LcamError(
            f"cannot read {path}: it is not a weights file, or it is damaged",
            "pass a state dict written by torch.save, or a .safetensors file",
        )
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return LcamError(
        f"cannot read {path}: {text}", "pass a file written by torch.save or safetensors"
    )
