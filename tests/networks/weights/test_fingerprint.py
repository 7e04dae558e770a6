"""The identity of weights that a function brings: any state dict has one, the same every time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from lcam_cli.networks.weights.fingerprint import sha256_of_state
from tests.conftest import ROOT


class _Holds(nn.Module):
    """Has some value in its state dict: a tensor, or anything at all as extra state."""

    def __init__(self, value: object) -> None:
        super().__init__()
        if isinstance(value, Tensor):
            self.register_buffer("value", value)
        else:
            self._value = value
            self.get_extra_state = lambda: self._value  # type: ignore[method-assign]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        if hasattr(self, "_value"):
            state["_extra_state"] = self._value
        return state


class _Object:
    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.tags = {"b", "a", "c"}
        self.itself = self


def _quantised(scale: float) -> Tensor:
    return torch.quantize_per_tensor(torch.arange(3.0), scale, 0, torch.qint8)


def _by_channel(scale: float) -> Tensor:
    zeros = torch.zeros(3)
    return torch.quantize_per_channel(torch.eye(3), torch.ones(3) * scale, zeros, 0, torch.qint8)


# What makes a value of each kind from a number: other numbers must give other identities.
KINDS: dict[str, Callable[[float], object]] = {
    **{
        str(dtype): lambda x, dtype=dtype: torch.tensor(x).to(dtype)  # type: ignore[misc]
        for dtype in (
            *(torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int8),
            *(torch.uint8, torch.int64, torch.float8_e4m3fn, torch.float8_e5m2),
        )
    },
    "bool": lambda x: torch.tensor([x > 1, True]),
    "conjugate": lambda x: torch.tensor([1 + x * 1j]).conj(),
    "negative": lambda x: torch.tensor([1 + x * 1j]).conj().imag,
    "transposed": lambda x: torch.tensor([[1.0, x], [3.0, 4.0]]).t(),
    "expanded": lambda x: torch.tensor(x).expand(3),
    "empty": lambda x: torch.empty(0, int(x)),
    "sparse": lambda x: (x * torch.eye(2)).to_sparse(),
    "rows": lambda x: (x * torch.eye(2)).to_sparse_csr(),
    "nested": lambda x: torch.nested.nested_tensor([torch.ones(2), x * torch.ones(3)]),
    "quantised": _quantised,
    "by_channel": _by_channel,
    "number": lambda x: x,
    "text": lambda x: f"a{x}",
    "bytes": lambda x: bytes([int(x)]),
    "none": lambda x: None if x > 1 else True,
    "list": lambda x: [1, (x, {"k": torch.tensor(x)})],
    "mapping": lambda x: {"a": 1, "b": x},
    "set": lambda x: {1, x},
    "dtype": lambda x: torch.float16 if x > 1 else torch.float32,
    "numpy": lambda x: np.array([x]),
    "numpy_objects": lambda x: np.array([{"k": x}], dtype=object),
    "object": _Object,
    "class": lambda x: dict if x > 1 else list,
    "slice": lambda x: slice(0, x),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_any_state_has_an_identity(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    make = KINDS[kind]
    first, again, other = (sha256_of_state(_Holds(make(x))) for x in (1.0, 1.0, 2.0))
    assert first == again
    assert first != other
    assert not caplog.records


def test_order_and_layout_are_no_part_of_it() -> None:
    x = torch.arange(24.0).reshape(1, 2, 3, 4)
    a, b = nn.Module(), nn.Module()
    for name in ("p", "q"):
        a.register_buffer(name, x)
    for name in ("q", "p"):
        b.register_buffer(name, x.contiguous(memory_format=torch.channels_last))
    assert sha256_of_state(a) == sha256_of_state(b)
    assert sha256_of_state(_Holds({"a": 1, "b": 2})) == sha256_of_state(_Holds({"b": 2, "a": 1}))
    b.register_buffer("p", x.reshape(1, 3, 2, 4))
    assert sha256_of_state(a) != sha256_of_state(b)


def test_plain_networks_keep_the_identity_they_had() -> None:
    """Maps files of before name it: names, types, shapes and bytes, in the names' order."""
    torch.manual_seed(0)
    wanted = (
        "sha256:"
        + __import__("hashlib")
        .sha256(
            b"".join(
                name.encode()
                + str((tensor.dtype, tuple(tensor.shape))).encode()
                + tensor.numpy().tobytes()
                for name, tensor in sorted(nn.Linear(2, 2).state_dict().items())
            )
        )
        .hexdigest()
    )
    torch.manual_seed(0)
    assert sha256_of_state(nn.Linear(2, 2)) == wanted


def _whole(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    shared = nn.Linear(3, 3)
    norm = parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    lazy = nn.LazyLinear(2)
    return nn.Sequential(norm, nn.BatchNorm2d(3), shared, shared, nn.InstanceNorm2d(3), lazy)


def test_what_nothing_tells_from_another_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert sha256_of_state(_whole(0)) == sha256_of_state(_whole(0)) != sha256_of_state(_whole(1))
    assert "5.bias (no values yet), 5.weight (no values yet)" in caplog.text
    caplog.clear()
    sha256_of_state(_Holds({"a": threading.Lock()}))
    assert "does not cover _extra_state (_thread.lock)" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_modules() -> None:
    quantize_dynamic = pytest.importorskip("torch.ao.quantization").quantize_dynamic

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        try:
            made: nn.Module = quantize_dynamic(nn.Sequential(nn.Linear(3, 2)), {nn.Linear})
        except RuntimeError as error:
            pytest.skip(f"this PyTorch quantises no longer: {error}")
        return made

    assert sha256_of_state(build(0)) == sha256_of_state(build(0)) != sha256_of_state(build(1))


def _mixed() -> nn.Module:
    return _Holds({"o": _Object(1.0), "s": {"x", "y", "z"}, "n": torch.eye(2)})


@pytest.mark.slow
def test_another_process_finds_the_same() -> None:
    """Hashes of text differ by process: none of them may reach the identity."""
    script = (
        "from tests.networks.weights.test_fingerprint import _mixed, sha256_of_state\n"
        "print(sha256_of_state(_mixed()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.strip() == sha256_of_state(_mixed())
