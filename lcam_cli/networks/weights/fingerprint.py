"""The identity of a network's weights where no file or name says it: a SHA-256 of its state dict.

It is the same on every machine, and whatever the order of entries, the memory layout or the device.
"""

from __future__ import annotations

import contextlib
import copyreg
import enum
import hashlib
import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

log = logging.getLogger("lcam")


def sha256_of_state(module: nn.Module) -> str:
    """Return ``"sha256:…"`` of everything in the state dict, extra state included.

    What can have no stable identity, such as an object that cannot be pickled, counts by its type
    alone; a warning says so.
    """
    digest = hashlib.sha256()
    unstable: list[str] = []
    state = _state_of(module)
    for name in sorted(state):
        value = state[name]
        digest.update(name.encode())
        hasher = _Hasher()
        if isinstance(value, Tensor) and _is_dense(value):
            digest.update(str((value.dtype, tuple(value.shape))).encode())
            digest.update(_bytes_of(value))
        else:
            digest.update(hasher.digest(value))
        unstable += [f"{name} ({kind})" for kind in hasher.unstable]
    if unstable:
        log.warning(
            "the identity of these weights does not cover %s, which cannot be told apart from "
            "other values",
            ", ".join(unstable[:3]) + (f" and {len(unstable) - 3} more" if unstable[3:] else ""),
        )
    return "sha256:" + digest.hexdigest()


def _state_of(module: nn.Module) -> Mapping[str, Any]:
    try:
        return module.state_dict()
    except Exception:  # a network's own hooks can raise anything
        return dict(itertools.chain(module.named_parameters(), module.named_buffers()))


def _is_dense(tensor: Tensor) -> bool:
    """Whether it is numbers in memory, and nothing else."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not tensor.is_quantized
        and not tensor.is_meta
    )


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    if flat.stride() != (1,):  # an axis of one number may have any stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes()


class _Hasher:
    """Digests of values of any type.

    Attributes:
        unstable: The types of what counts by its type alone.
    """

    def __init__(self) -> None:
        self.unstable: list[str] = []
        self._within: set[int] = set()  # objects whose digest is being made

    def digest(self, value: Any) -> bytes:
        """A digest that equal values share."""
        if id(value) in self._within:
            return _joined("cycle", [])
        self._within.add(id(value))
        try:
            return self._digest(value)
        except RecursionError:
            self.unstable.append(_name(type(value)))
            return _joined("deep", [])
        finally:
            self._within.discard(id(value))

    def _digest(self, value: Any) -> bytes:  # noqa: PLR0911 (one line a kind)
        if isinstance(value, Tensor):
            return self._of_tensor(value)
        if isinstance(value, enum.Enum):
            return _joined("enum", [_name(type(value)).encode(), value.name.encode()])
        if value is None or isinstance(value, bool | int | float | complex | str):
            return _joined(type(value).__name__, [repr(value).encode()])
        if isinstance(value, bytes | bytearray):
            return _joined("bytes", [bytes(value)])
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format | torch.qscheme):
            return _joined("torch", [str(value).encode()])
        if isinstance(value, torch.device):
            return _joined("device", [])  # where the weights lie is no part of what they are
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            order = value.dtype.newbyteorder("<")
            header = [order.str.encode(), str(value.shape).encode()]
            return _joined("numpy", [*header, np.asarray(value, order).tobytes()])
        if isinstance(value, list | tuple):
            return self._all(type(value).__name__, value)
        if isinstance(value, set | frozenset):
            return _joined("set", sorted(self.digest(v) for v in value))
        if isinstance(value, Mapping):
            return _joined("map", sorted(self._all("item", item) for item in value.items()))
        if isinstance(value, torch.Generator):
            return self._all("generator", [value.get_state()])
        if isinstance(value, type) or hasattr(value, "__qualname__"):
            return _joined("name", [_name(value).encode()])
        return self._of_object(value)

    def _all(self, kind: str, values: Iterable[Any]) -> bytes:
        return _joined(kind, [self.digest(value) for value in values])

    def _of_tensor(self, value: Tensor) -> bytes:  # noqa: PLR0911 (one line a kind)
        if torch.nn.parameter.is_lazy(value) or value.is_meta:
            self.unstable.append("no values yet")
            return _joined("empty", [str(value.dtype).encode()])
        if hasattr(value, "__tensor_flatten__"):  # a subclass that wraps others
            names, context = value.__tensor_flatten__()
            parts = [getattr(value, name) for name in names]
            return self._all(_name(type(value)), [*names, *parts, context])
        if value.is_nested:
            return self._all("nested", value.unbind())
        if value.is_quantized:
            return self._all("quantised", [value.dtype, value.int_repr(), *_scales(value)])
        if value.layout == torch.sparse_coo:
            value = value.coalesce()
            return self._all("sparse", [tuple(value.shape), value.indices(), value.values()])
        if value.layout != torch.strided:
            return self._of_tensor(value.to_sparse())
        header = str((value.dtype, tuple(value.shape))).encode()
        return _joined("tensor", [header, _bytes_of(value)])

    def _of_object(self, value: Any) -> bytes:
        """Of what pickling would keep: how it is made, of what, and its state."""
        with contextlib.suppress(Exception):
            if isinstance(value, torch.ScriptObject):  # packed parameters
                return self._all("script", [value.__getstate__()])
            reduce = copyreg.dispatch_table.get(type(value))
            made = reduce(value) if reduce else value.__reduce_ex__(4)
            if not isinstance(made, str):
                function, arguments, *rest = made
                state, items, pairs = (*rest, None, None, None)[:3]
                listed = [list(x) if x is not None else None for x in (items, pairs)]
                return self._all("object", [function, arguments, state, *listed])
        self.unstable.append(_name(type(value)))
        return _joined("unknown", [_name(type(value)).encode()])


def _scales(value: Tensor) -> list[Any]:
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [value.q_scale(), value.q_zero_point()]
    return [
        value.q_per_channel_scales(),
        value.q_per_channel_zero_points(),
        value.q_per_channel_axis(),
    ]


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _joined(kind: str, parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.digest()
