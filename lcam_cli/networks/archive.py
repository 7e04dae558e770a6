"""Reading exported programs (``.pt2``), without running anything in them.

``torch.export.load`` cannot be used on a file from a stranger: its documentation says that it
unpickles, and it also evaluates text of the file (sizes, through sympy) and loads compiled
libraries. An archive is a zip of JSON and numbers, though, and these are enough: the program is one
JSON file, and a table says which bytes are which tensor. Until PyTorch 2.8 the tensors lay in files
of ``torch.save``; these are read as elsewhere, by PyTorch's restricted unpickler.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.file_kinds import check_archive
from lcam_cli.networks.weights.tensors import tensors_of

# The first number of the format's version; the second grows with what older readers can ignore.
_SCHEMA = 8
# The program's name before PyTorch 2.8, when all files lay beside each other.
_FLAT = "serialized_exported_program.json"
# The format's numbers for the types that weights and arguments come in.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}


@dataclass(frozen=True)
class Archive:
    """What an archive holds.

    Attributes:
        program: The graph and its signature, as the JSON has them.
        tensors: Parameters, buffers and constants, on the CPU, by name.
    """

    program: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_archive(path: Path) -> Archive:
    """Read an archive that ``torch.export.save`` wrote.

    Raises:
        LcamError: It is damaged, of another format, or holds what only unpickling could read.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except LcamError:
        raise
    except Exception as error:  # whatever a damaged file can raise
        raise LcamError(
            f"cannot read {path}: {type(error).__name__}: {str(error)[:200]}",
            "pass a file written by torch.export.save",
        ) from None


def _read(path: Path, archive: zipfile.ZipFile) -> Archive:
    names = archive.namelist()
    models = [m for name in names if (m := re.fullmatch(r"((?:[^/]+/)?)models/(.+)\.json", name))]
    if len(models) == 1:
        root, model = models[0].groups()
        program = _program(path, archive.read(models[0][0]))
        tensors: dict[str, Tensor] = {}
        for kind in ("weights", "constants"):
            folder = f"{root}data/{kind}/"
            table = f"{folder}{model}_{kind}_config.json"
            if table in names:
                entries = json.loads(archive.read(table))["config"]
                tensors |= _read_raw(path, kind, archive, folder, entries)
            else:
                tensors |= _read_pickled(path, kind, archive.read(f"{folder}{model}.pt"))
        return Archive(program, tensors)
    if not models and _FLAT in names:
        program = _program(path, archive.read(_FLAT))
        weights = _read_pickled(path, "weights", archive.read("serialized_state_dict.pt"))
        constants = _read_pickled(path, "constants", archive.read("serialized_constants.pt"))
        return Archive(program, weights | constants)
    raise LcamError(
        f"{path} holds {len(models) or 'no'} exported programs",
        "pass a file with one network, written by torch.export.save",
    )


def _program(path: Path, content: bytes) -> Mapping[str, Any]:
    """The graph and its signature, if they are of the format that is known."""
    program: Mapping[str, Any] = json.loads(content)
    if program["schema_version"]["major"] != _SCHEMA:
        raise LcamError(
            f"{path} is of format {program['schema_version']['major']}, not {_SCHEMA}",
            "export it again with another PyTorch",
        )
    return program


def _read_raw(
    path: Path, kind: str, archive: zipfile.ZipFile, folder: str, entries: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Tensors that lie in the archive as their bytes, one file each."""
    tensors = {}
    for name, entry in entries.items():
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise _more_than_tensors(path, f"{name} of its {kind}")
        content = archive.read(folder + entry["path_name"])
        tensors[name] = _tensor(name, content, entry["tensor_meta"])
    return tensors


def _read_pickled(path: Path, kind: str, content: bytes) -> dict[str, Tensor]:
    """Tensors of a file of ``torch.save``, which PyTorch's restricted unpickler reads.

    Raises:
        LcamError: It holds anything else; nothing of that is run.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        entries = inner.infolist()
    if sum(entry.file_size for entry in entries) > len(content):
        raise ValueError(f"its {kind} claim to hold more than they contain")
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        held = None
    if not isinstance(held, Mapping):
        raise _more_than_tensors(path, f"something in its {kind}")
    tensors = tensors_of(held)
    for name in held:
        if name not in tensors:
            raise _more_than_tensors(path, f"{name} of its {kind}")
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _more_than_tensors(path: Path, what: str) -> LcamError:
    return LcamError(
        f"{path} refused: reading {what} would need unpickling",
        "export a network whose weights are plain tensors",
    )


def _tensor(name: str, content: bytes, meta: Mapping[str, Any]) -> Tensor:
    """The tensor that lies in ``content`` as ``meta`` says.

    Raises:
        ValueError: It claims more numbers than there are.
    """
    dtype = DTYPES[meta["dtype"]]
    flat = torch.empty(0, dtype=dtype)
    if content:
        flat = torch.frombuffer(bytearray(content), dtype=dtype)
    sizes, strides = ([int(n["as_int"]) for n in meta[key]] for key in ("sizes", "strides"))
    if torch.Size(sizes).numel() > len(flat):
        raise ValueError(f"{name} claims {sizes} numbers but has {len(flat)}")
    return flat.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"]))
