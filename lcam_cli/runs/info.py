"""``lcam info``: what is installed, and what a file holds. Nothing in a file is executed."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from lcam_cli.errors import LcamError, plural
from lcam_cli.extras import install
from lcam_cli.version import __version__

Facts = dict[str, Any]
"""What there is to say, by name: JSON values."""

_PACKAGE = "lcam-cli"
_NEEDED = ("torch", "torchvision", "numpy", "pillow", "h5py", "safetensors")
_FOR_DEVELOPERS = ("all", "test", "dev")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*;\s*extra\s*==\s*['\"]([^'\"]+)['\"]")
_HINT = "pass a maps file, an attention, a run's folder or a checkpoint"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def about_installation() -> Facts:
    """Return versions, devices and extras. Imports torch."""
    import torch  # noqa: PLC0415 (a file's facts need none of it)

    devices = [f"cpu ({plural(torch.get_num_threads(), 'thread')})"]
    devices += [
        f"cuda:{k} ({torch.cuda.get_device_name(k)})" for k in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "lcam": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _NEEDED},
        "devices": devices,
        "extras": _extras(),
    }


def _version(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, Facts]:
    """The packages of each extra with their versions, and how to install one that is missing."""
    try:
        requirements = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # a clone that is not installed
        return {}
    packages: dict[str, list[str]] = {}
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found and found[2] not in _FOR_DEVELOPERS:
            packages.setdefault(found[2], []).append(found[1])
    extras: dict[str, Facts] = {}
    for extra, names in packages.items():
        extras[extra] = {name: _version(name) for name in names}
        if None in extras[extra].values():
            extras[extra]["to install"] = install(extra)
    return extras


def about_file(path: Path, method: str | None = None) -> Facts:
    """Return what a maps file, an attention file, a run's folder or a checkpoint holds.

    Args:
        path: The file.
        method: Whose maps, in a file that holds those of several methods.

    Raises:
        LcamError: It is missing, damaged or of another kind; or holds the maps of several methods,
            and none is named.
    """
    if path.is_dir():
        from lcam_cli.methods.attention_file import FILE_NAME  # noqa: PLC0415 (imports torch)

        if not (path / FILE_NAME).is_file():
            raise LcamError(f"cannot read {path}: it is a folder without {FILE_NAME}", _HINT)
        path /= FILE_NAME
    try:
        with path.open("rb") as file:
            begin = file.read(len(_HDF5))
    except OSError as error:
        raise LcamError(f"cannot read {path}: {error.strerror}", _HINT) from error
    if begin == _HDF5:
        return _of_maps(path, method)
    if method is not None:
        raise LcamError(f"{path} is not a maps file, so --method does not apply", "remove --method")
    return _of_weights(path)


def _of_maps(path: Path, method: str | None) -> Facts:
    from lcam_cli.maps.hdf5.reader import MapsFile  # noqa: PLC0415

    with MapsFile(path, method) as file:
        info = file.info
        return {
            "kind": "maps",
            "maps": len(file),
            "complete": file.complete,
            "method": info.method,
            "method settings": info.method_params,
            "backbone": info.backbone,
            "weights": info.weights,
            "layer": info.layer,
            "activation": info.activation,
            "precision": info.precision or None,
            "size": list(file.size),
            "cells": None if file.cam_size is None else list(file.cam_size),
            "stored as": file.map_dtype,
            "flat maps": file.flat_rows,
            "skipped": len(file.skipped),
            "classes": len(info.classes) or None,
            "explained": info.classes_explained,
            "images in": info.root,
            "preprocessing": info.preprocess,
            "written by lcam": info.lcam_version,
            "written": info.created or None,
        }


def _of_weights(path: Path) -> Facts:
    """Of an attention file, or else of whatever tensors there are."""
    from lcam_cli.methods.attention_file import load_attention  # noqa: PLC0415
    from lcam_cli.networks.weights.checkpoint import (  # noqa: PLC0415
        read_checkpoint,
        sha256_of_file,
    )

    content = read_checkpoint(path)  # what is damaged, or would run code, is refused here
    facts: Facts = {"kind": "checkpoint", "sha256": sha256_of_file(path).removeprefix("sha256:")}
    try:
        attention = load_attention(path)
    except LcamError:  # none of ours, nor of the authors'
        return facts | _of_tensors(content)
    facts["kind"] = "attention" if attention.settings else "attention of another project"
    facts["classes"] = attention.attention.classes
    facts["channels"] = attention.attention.channels
    if attention.settings:
        identity = attention.settings.trained_on or attention.settings.identity
        facts |= {
            "backbone": identity.name,
            "weights": identity.weights,
            "layer": identity.layer,
            "activation": identity.activation,
            "preprocessing": attention.settings.preprocess.to_json(),
            "training": attention.settings.training,
        }
    return facts


def _of_tensors(content: Mapping[str, Any]) -> Facts:
    """The tensors of a state dict, also where it is one entry of a checkpoint."""
    from lcam_cli.networks.weights.tensors import tensors_of  # noqa: PLC0415

    tensors = tensors_of(content)
    entry = None
    for name, value in content.items():
        if isinstance(value, Mapping) and len(inner := tensors_of(value)) > len(tensors):
            tensors, entry = inner, str(name)
    named = list(tensors.items())
    return {
        "state dict in": entry,
        "other entries": [str(name) for name in content if name not in tensors and name != entry],
        "tensors": len(named),
        "values": sum(tensor.numel() for tensor in tensors.values()),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
        "first": {name: list(tensor.shape) for name, tensor in named[:3]},
        "last": {name: list(tensor.shape) for name, tensor in named[-3:]},
    }
