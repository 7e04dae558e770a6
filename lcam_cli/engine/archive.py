"""Reading exported programs (``.pt2``), without unpickling or running anything in them.

``torch.export.load`` cannot be used on a file from a stranger: its documentation says that it
unpickles, and it also evaluates text of the file (sizes, through sympy) and loads compiled
libraries. An archive is a zip of JSON and raw numbers, though, and these are enough: the program is
one JSON file, and a table says which bytes are which tensor.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcam_cli.engine.file_kinds import check_archive
from lcam_cli.errors import LcamError

# The first number of the format's version; the second grows with what older readers can ignore.
_SCHEMA = 8
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
            "it must be a file written by torch.export.save",
        ) from None


def _read(path: Path, archive: zipfile.ZipFile) -> Archive:
    models = [
        m for n in archive.namelist() if (m := re.fullmatch(r"((?:[^/]+/)?)models/(.+)\.json", n))
    ]
    if len(models) != 1:
        raise LcamError(
            f"{path} holds {len(models) or 'no'} exported programs of the present format",
            "export one network again with a newer PyTorch: torch.export.save",
        )
    root, model = models[0].groups()
    program = json.loads(archive.read(models[0][0]))
    if program["schema_version"]["major"] != _SCHEMA:
        raise LcamError(
            f"{path} is of format {program['schema_version']['major']}, not {_SCHEMA}",
            "export it again with another PyTorch",
        )
    tensors: dict[str, Tensor] = {}
    for kind in ("weights", "constants"):
        folder = f"{root}data/{kind}/"
        table = f"{folder}{model}_{kind}_config.json"
        if table not in archive.namelist():
            raise LcamError(
                f"{path} keeps its {kind} as a pickle, which is not opened",
                "export it again with a newer PyTorch: torch.export.save",
            )
        for name, entry in json.loads(archive.read(table))["config"].items():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise LcamError(
                    f"{path} refused: {name} of its {kind} would have to be unpickled",
                    "export a network whose weights are plain tensors",
                )
            content = archive.read(folder + entry["path_name"])
            tensors[name] = _tensor(name, content, entry["tensor_meta"])
    return Archive(program, tensors)


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
        raise ValueError(f"{name} is said to have {sizes} numbers and has {len(flat)}")
    return flat.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"]))
