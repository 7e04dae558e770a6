"""Exported programs for tests, in each of the layouts that ``torch.export.save`` has had."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

# By the first version that wrote it: all files beside each other; weights in one file of
# torch.save; weights as raw bytes, with a table.
LAYOUTS = ("2.6", "2.8", "2.9")
_OLD_NAMES = {
    "models/model.json": "serialized_exported_program.json",
    "data/weights/model.pt": "serialized_state_dict.pt",
    "data/constants/model.pt": "serialized_constants.pt",
    "data/sample_inputs/model.pt": "serialized_example_inputs.pt",
}


def export(
    network: nn.Module, path: Path, *, side: int = 32, batch: int = 2, dynamic: bool = True
) -> Path:
    """Write a network as a program: for batches of any size, or of that of the example alone."""
    first = torch.__version__.startswith("2.6.")  # it takes no pool without such a limit
    shapes = ({0: torch.export.Dim("batch", **({"max": 1024} if first else {}))},)
    picture = torch.rand(batch, 3, side, side)
    program = torch.export.export(
        network.eval(), (picture,), dynamic_shapes=shapes if dynamic else None, strict=False
    )
    torch.export.save(program, path)
    return path


def entries(path: Path) -> dict[str, bytes]:
    """What an archive holds, by name, without the folder that PyTorch puts around it."""
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    return {
        re.sub(r"^[^/]+/(?=models/|data/|archive_format)", "", name): content
        for name, content in found.items()
    }


def write(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, one in content.items():
            archive.writestr(name, one)


def changed(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write an archive anew, with ``change(name, content)`` in each entry's place."""
    write(path, {name: change(name, content) for name, content in entries(path).items()})


def changed_json(path: Path, ending: str | tuple[str, ...], change: Callable[[Any], None]) -> None:
    def apply(name: str, content: bytes) -> bytes:
        if not name.endswith(ending):
            return content
        told = json.loads(content)
        change(told)
        return json.dumps(told).encode()

    changed(path, apply)


def relaid(path: Path, layout: str = LAYOUTS[-1]) -> Path:
    """Write an archive anew as another version lays it; this one's own graph stays."""
    old = {new: name for name, new in _OLD_NAMES.items()}
    content = {old.get(name, name): one for name, one in entries(path).items()}
    for kind in ("weights", "constants"):
        tensors = _taken(content, kind)
        if layout == LAYOUTS[-1]:
            _put_raw(content, kind, tensors)
        else:
            file = io.BytesIO()
            torch.save(tensors, file)
            content[f"data/{kind}/model.pt"] = file.getvalue()
    if layout == LAYOUTS[0]:
        content = {_OLD_NAMES.get(name, name): one for name, one in content.items()}
        content["version"] = b"8.2"
    write(path, content)
    return path


def _taken(content: dict[str, bytes], kind: str) -> dict[str, torch.Tensor]:
    """Take the tensors of a kind out of an archive, whichever way they lie there."""
    folder = f"data/{kind}/"
    if f"{folder}model.pt" in content:
        return torch.load(io.BytesIO(content.pop(f"{folder}model.pt")), weights_only=True)
    table = json.loads(content.pop(f"{folder}model_{kind}_config.json"))["config"]
    tensors = {}
    for name, entry in table.items():
        meta = entry["tensor_meta"]
        sizes = [size["as_int"] for size in meta["sizes"]]
        dtype = {5: torch.int64, 7: torch.float32, 12: torch.bool}[meta["dtype"]]
        raw = bytearray(content.pop(folder + entry["path_name"]))
        tensors[name] = torch.frombuffer(raw, dtype=dtype).reshape(sizes)
    return tensors


def _put_raw(content: dict[str, bytes], kind: str, tensors: dict[str, torch.Tensor]) -> None:
    table = {}
    for i, (name, tensor) in enumerate(tensors.items()):
        file = f"{'weight' if kind == 'weights' else 'tensor'}_{i}"
        content[f"data/{kind}/{file}"] = tensor.detach().contiguous().numpy().tobytes()
        meta = {
            "dtype": {torch.int64: 5, torch.float32: 7, torch.bool: 12}[tensor.dtype],
            "sizes": [{"as_int": n} for n in tensor.shape],
            "strides": [{"as_int": n} for n in tensor.contiguous().stride()],
            "storage_offset": {"as_int": 0},
        }
        table[name] = {"path_name": file, "use_pickle": False, "tensor_meta": meta}
    content[f"data/{kind}/model_{kind}_config.json"] = json.dumps({"config": table}).encode()
