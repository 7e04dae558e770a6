"""What ``torch.save`` wrote, in its new format and its old one, read as data: nothing is run.

Tensors are made; every other object is described (``weights.pickles``). What the file says of a
tensor's size is held against the file itself.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from lcam_cli.networks.weights.pickles import Name, OpaqueObject, PickleMachine
from lcam_cli.networks.weights.tensors import is_plain

# The first number in files that torch.save wrote before it wrote zips.
_OLD_FORMAT = 0x1950A86A20F9469CFC6C
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


def read_as_data(path: Path) -> tuple[object, set[str]]:
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
        raise ValueError("a persistent id that is not a storage")
    kind = identity[1]
    assert isinstance(kind, Name)
    return _text(identity[2]), _STORAGE_TYPES[kind.full.rpartition(".")[2]]


def _text(value: object) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


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
