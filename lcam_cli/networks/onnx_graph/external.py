"""Tensors that lie in files beside an ONNX file, read from its own folder and from nowhere else.

A file from a stranger says where they lie. What leads out of the folder, by its name or by a link,
is refused. onnxruntime never opens such files itself: it gets their content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph import wire
from lcam_cli.networks.onnx_graph.model import StoredTensor
from lcam_cli.networks.weights.file_kinds import real_path

_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_COPY = "copy the whole folder that it was exported into"


def external_files(folder: Path, tensors: Iterable[StoredTensor]) -> list[Path]:
    """The files that tensors lie in, in the order of their names.

    Raises:
        LcamError: One lies outside of the folder, or is missing; or a tensor does not lie in its
            file, or claims more bytes than lie there.
    """
    files: dict[str, Path] = {}
    for tensor in tensors:
        if tensor.external is not None:
            path = _path(folder, tensor)
            start, length = _part(tensor)
            size = path.stat().st_size
            if start + length > size:
                raise LcamError(
                    f"tensor {tensor.name!r} claims bytes {start} to {start + length} of "
                    f"{path.name}, which has only {size}",
                    _COPY,
                )
            files[str(path)] = path
    return [files[name] for name in sorted(files)]


def with_content(folder: Path, tensor: StoredTensor) -> StoredTensor:
    """The tensor as one that is in the file itself.

    Raises:
        LcamError: As :func:`external_files`; or its file cannot be read.
    """
    if tensor.external is None:
        return tensor
    path = _path(folder, tensor)
    start, length = _part(tensor)
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(length)
    except OSError as error:
        raise LcamError(f"cannot read {path}: {error.strerror}", _COPY) from None
    kept = [
        part.whole
        for part in wire.fields(tensor.message)
        if part.number not in (_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION)
    ]
    message = memoryview(b"".join([*kept, *wire.nested(_RAW_DATA, [content])]))
    return replace(tensor, raw=memoryview(content), listed=None, external=None, message=message)


def sha256_with_files(digest: str, files: Iterable[Path]) -> str:
    """``"sha256:…"`` of a file and of those that its tensors lie in.

    Args:
        digest: The file's own, ``"sha256:…"``; it is returned where there are no others.
        files: The others.

    Raises:
        LcamError: One cannot be read.
    """
    whole = hashlib.sha256(digest.encode())
    files = list(files)
    for path in files:
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise LcamError(f"cannot read {path}: {error.strerror}", _COPY) from None
    return f"sha256:{whole.hexdigest()}" if files else digest


def _path(folder: Path, tensor: StoredTensor) -> Path:
    """The file that a tensor is in, inside the folder."""
    location = (tensor.external or {}).get("location", "")
    named = PurePosixPath(location.replace("\\", "/"))
    outside = not location or "\0" in location or named.is_absolute() or ".." in named.parts
    real = folder.resolve()
    path = real if outside else real / named
    # A link may lead anywhere; a folder, a device or a pipe is no file.
    if outside or not real_path(path).is_relative_to(real):
        raise LcamError(
            f"tensor {tensor.name!r} is in {location!r}, outside the file's folder",
            "export it again, with its data in the same folder",
        )
    if not os.path.isfile(path):  # noqa: PTH113 (never raises, as of a name that is too long)
        raise LcamError(f"tensor {tensor.name!r} is in {location!r}, which is missing", _COPY)
    return path


def _part(tensor: StoredTensor) -> tuple[int, int]:
    """Where a tensor's bytes begin in their file, and how many there are.

    Raises:
        LcamError: It does not say so in numbers, or says other than its sizes do.
    """
    told = tensor.external or {}
    try:
        start = int(told.get("offset", "0"))
        length = int(told.get("length", str(tensor.size)))
    except ValueError:
        start = length = -1
    if start < 0 or length != tensor.size:
        raise LcamError(
            f"tensor {tensor.name!r} does not say where its {tensor.size} bytes are",
            "copy the file again: it is damaged",
        )
    return start, length
