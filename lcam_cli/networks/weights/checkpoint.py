"""Reading tensors out of files from strangers, without running anything in them.

``.safetensors`` holds tensors and text only. Pickles (``.pt``, ``.pth``, ``.ckpt``) are read by
PyTorch's restricted unpickler (``weights_only=True``), which builds tensors and plain containers
and refuses everything else. What it refuses is read as data (``weights.pickles``): a NumPy number
or a framework's options are described instead of made, and a file that would run a function is
refused. What a file says of its sizes is held against the file itself, so that a small one cannot
ask for more memory than it fills.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.file_kinds import check_is_file, check_kind
from lcam_cli.networks.weights.pickles import Name, OpaqueObject, PickleMachine

# A table beside the parts that a large state dict is saved in: which part holds which tensor.
_INDEX = ".index.json"
_SAVE = "save model.state_dict() and give that file"
# The first number in files that torch.save wrote before it wrote zips.
_OLD_FORMAT = 0x1950A86A20F9469CFC6C


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
            f"cannot read {path}: {error.strerror or error}", "give a file that exists"
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


def tensors_of(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the entries of ``content`` that are plain tensors under a text name."""
    return {k: v for k, v in content.items() if isinstance(k, str) and is_plain(v)}


def is_plain(value: object) -> TypeGuard[torch.Tensor]:
    """Whether this is a dense tensor of numbers that are all there.

    Sparse, meta and expanded tensors can claim any size in a file of a few bytes.
    """
    if not isinstance(value, torch.Tensor) or value.is_nested or value.is_quantized:
        return False
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex():
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


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
            f"cannot read {path}: {error}", "the file is damaged; get it again"
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
            "it must be the table of a state dict saved in parts",
        ) from None
    for file in set(parts.values()):
        # A file from a stranger does not choose what else is read.
        if not re.fullmatch(r"[\w.-]+\.(safetensors|bin|pt|pth)", file):
            raise LcamError(
                f"{path} names {file!r}, which is no file of weights beside it",
                "get the whole folder again",
            )
        check_is_file(path.parent / file)
    return {name: path.parent / file for name, file in parts.items()}


def _read_parts(path: Path) -> dict[str, object]:
    state: dict[str, object] = {}
    parts = _parts(path)
    for part in sorted(set(parts.values())):
        state |= read_checkpoint(part)
    if missing := [name for name in parts if name not in state]:
        raise LcamError(f"the parts of {path} lack {missing[0]}", "get the whole folder again")
    return state


# --- pickles --------------------------------------------------------------------------------------


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():  # on protocols and old storages: nothing to act on
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        said = error
    try:
        content, would_run = _read_as_data(path)
    except Exception:  # as above
        raise _unreadable(path, said) from None
    if would_run:
        raise LcamError(
            f"{path} refused: unpickling it would run {', '.join(sorted(would_run)[:3])}",
            "save only the state dict (torch.save(model.state_dict(), …)) or use .safetensors",
        )
    return content


def _read_as_data(path: Path) -> tuple[object, set[str]]:
    """What a file of ``torch.save``'s holds, and the functions that unpickling it would run.

    Raises:
        Exception: It is none, or damaged.
    """
    with path.open("rb") as file:
        begins = file.read(2)
        file.seek(0)
        return _read_zip(file) if begins == b"PK" else _read_old(file)


def _read_zip(file: IO[bytes]) -> tuple[object, set[str]]:
    with zipfile.ZipFile(file) as archive:
        (pickle,) = (n for n in archive.namelist() if n.endswith("data.pkl") and n.count("/") < 2)
        root = pickle.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") == b"big":
            raise ValueError("numbers in the other byte order")
        storages: dict[str, torch.Tensor] = {}

        def bytes_of(identity: object) -> _Storage:
            key, dtype = _storage_type(identity)
            if key not in storages:
                storages[key] = _bytes_at(file, archive.getinfo(f"{root}data/{key}"))
            return _Storage(storages[key], dtype)

        machine = PickleMachine(bytes_of, _make_tensor)
        with archive.open(pickle) as stream:
            return machine.read(stream), machine.would_run


def _bytes_at(file: IO[bytes], entry: zipfile.ZipInfo) -> torch.Tensor:
    """The bytes of an entry that is not compressed, as uint8.

    Its checksum is not looked at: ``torch.save`` may leave it out.
    """
    file.seek(entry.header_offset)
    header = file.read(30)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    file.seek(entry.header_offset + 30 + names)
    return _read_bytes(file, entry.file_size)


def _read_bytes(file: IO[bytes], size: int) -> torch.Tensor:
    content = torch.empty(size, dtype=torch.uint8)
    into: Any = content.numpy()
    if file.readinto(into.data) != size:  # type: ignore[attr-defined]
        raise ValueError("the file ends in a tensor")
    return content


def _read_old(file: IO[bytes]) -> tuple[object, set[str]]:
    """Five pickles, then the bytes of the storages that the fourth names, in the fifth's order."""
    first = [PickleMachine(lambda identity: identity, _nothing).read(file) for _ in range(3)]
    if first[0] != _OLD_FORMAT:
        file.seek(0)
        # A bare pickle: no tensors of torch.save's.
        machine = PickleMachine(lambda identity: identity, _nothing)
        return machine.read(file), machine.would_run
    start = file.tell()
    dtypes: dict[str, torch.dtype] = {}

    def note(identity: object) -> object:
        key, dtype = _storage_type(identity)
        dtypes[key] = dtype
        return None

    looking = PickleMachine(note, _nothing)
    looking.read(file)
    if looking.would_run:
        return None, looking.would_run
    keys = PickleMachine(lambda identity: identity, _nothing).read(file)
    left = Path(file.name).stat().st_size
    storages: dict[str, torch.Tensor] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        size = count * dtypes[str(key)].itemsize
        if size > left:
            raise ValueError("the file ends in a tensor")
        storages[str(key)] = _read_bytes(file, size)
    file.seek(start)

    def bytes_of(identity: object) -> _Storage:
        key, dtype = _storage_type(identity)
        assert isinstance(identity, tuple)
        content = storages[key]
        if identity[5] is not None:  # a part of another storage
            _, offset, count = identity[5]
            content = content[offset * dtype.itemsize : (offset + count) * dtype.itemsize]
        return _Storage(content, dtype)

    machine = PickleMachine(bytes_of, _make_tensor)
    return machine.read(file), machine.would_run


class _Storage:
    """The bytes that tensors lie in, and what they count as."""

    def __init__(self, content: torch.Tensor, dtype: torch.dtype) -> None:
        self.content = content
        self.dtype = dtype


def _storage_type(identity: object) -> tuple[str, torch.dtype]:
    """Key and type of ``("storage", type, key, device, count)``."""
    if not isinstance(identity, tuple) or _text(identity[0]) != "storage":
        raise ValueError("a persistent id that is no storage")
    kind = identity[1]
    assert isinstance(kind, Name)
    return _text(identity[2]), _STORAGE_TYPES[kind.full.rpartition(".")[2]]


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


_STORAGE_TYPES = {
    "UntypedStorage": torch.uint8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
_QUANTISED = {torch.int8: torch.qint8, torch.uint8: torch.quint8}


def _nothing(_function: str, _arguments: tuple[Any, ...]) -> object | None:
    return None


def _make_tensor(function: str, arguments: tuple[Any, ...]) -> object | None:
    """The tensor that PyTorch's functions for this would make; None for other functions."""
    if function in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
        return _tensor(*arguments[:4])
    if function == "torch._utils._rebuild_tensor_v3":
        storage, *place = arguments[:4]
        return _tensor(_Storage(storage.content, arguments[6]), *place)
    if function == "torch._utils._rebuild_qtensor":
        return _quantised(_tensor(*arguments[:4]), *arguments[4])
    if function.startswith("torch._utils._rebuild_parameter"):
        return arguments[0]  # type: ignore[no-any-return]
    if function == "torch._tensor._rebuild_from_type_v2":
        # A tensor with more to it, such as fastai's: the numbers alone. Shards are none.
        inner, kind, given, _state = arguments
        made = _make_tensor(inner.full, given) if isinstance(inner, Name) else None
        return made if made is not None else OpaqueObject(kind.full)
    return None


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any) -> torch.Tensor:
    """A view of the storage; PyTorch checks that it lies inside."""
    itemsize = storage.dtype.itemsize
    whole = storage.content[: len(storage.content) // itemsize * itemsize].view(storage.dtype)
    if 0 in tuple(size):
        return torch.empty(tuple(size), dtype=storage.dtype)
    return whole.as_strided(tuple(size), tuple(stride), offset)


def _quantised(numbers: torch.Tensor, scheme: Name, *scales_and_zeros: Any) -> object:
    """The quantised tensor of these integers; quantising what they stand for gives them again."""
    dtype = _QUANTISED.get(numbers.dtype)
    known = scheme.full in ("torch.per_tensor_affine", "torch.per_channel_affine")
    if dtype is None or not known or not is_plain(numbers):
        return OpaqueObject(scheme.full)
    if scheme.full == "torch.per_tensor_affine":
        scale, zero = float(scales_and_zeros[0]), int(scales_and_zeros[1])
        values = (numbers.float() - zero) * scale
        return torch.quantize_per_tensor(values, scale, zero, dtype)
    scales, zeros, axis = scales_and_zeros
    shape = [-1 if i == axis else 1 for i in range(numbers.ndim)]
    values = (numbers.float() - zeros.reshape(shape)) * scales.reshape(shape)
    return torch.quantize_per_channel(values.float(), scales, zeros, axis, dtype)


def _unreadable(path: Path, error: Exception) -> LcamError:
    """Tell why PyTorch could not read a file, without its advice to read it unsafely."""
    if re.search(r"weights[_ ]only", str(error), re.IGNORECASE):
        return LcamError(
            f"cannot read {path}: it is no weights file, or a damaged one",
            "give a state dict written by torch.save, or a .safetensors file",
        )
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return LcamError(
        f"cannot read {path}: {text}", "it must be a file written by torch.save or safetensors"
    )
