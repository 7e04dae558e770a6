"""Pickles read as data: harmless types never refuse a file, what would run always does."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import os
import pathlib
import pickle
import re
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.checkpoint import read_checkpoint
from lcam_cli.networks.weights.pickles import OpaqueObject, PickleMachine

STATE = {
    "a": torch.arange(6.0)[1:].reshape(5, 1),
    "b": torch.ones(2, dtype=torch.bfloat16),
    "c": torch.tensor(3),
    "d": torch.eye(3).t()[:, 1],
    "e": torch.tensor([1 + 2j]),
    "f": torch.tensor([True, False]),
    "g": torch.empty(0, 3),
}


class _Kind(enum.Enum):
    ONE = 1


class _Outer:
    class Inner(enum.IntEnum):
        TWO = 2


@dataclasses.dataclass
class _Config:
    lr: float = 0.1
    steps: list[int] = dataclasses.field(default_factory=lambda: [1, 2])


class _Dictionary(dict):  # type: ignore[type-arg]
    """As Lightning's AttributeDict, omegaconf's DictConfig, easydict's EasyDict."""


class _List(list):  # type: ignore[type-arg]
    pass


class _Slots:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


def _function() -> None: ...


# By name, for each is a case of its own.
HARMLESS: dict[str, Any] = {
    "numpy_scalar": np.float64(91.25),
    "numpy_integer": np.int32(2),
    "numpy_bool": np.bool_(True),
    "numpy_array": np.arange(3.0),
    "numpy_text": np.array(["a"]),
    "numpy_objects": np.array([{}, None], dtype=object),
    "numpy_masked": np.ma.array([1, 2], mask=[0, 1]),
    "numpy_type": np.dtype("f4"),
    "numpy_date": np.datetime64("2026-01-02"),
    "numpy_random": np.random.RandomState(0).get_state(),
    "numpy_generator": np.random.default_rng(0),
    "datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "timedelta": datetime.timedelta(seconds=3),
    "ordered": collections.OrderedDict(a=1),
    "defaultdict": collections.defaultdict(list, {"loss": [1.0]}),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], maxlen=3),
    "enum": _Kind.ONE,
    "enum_inside": _Outer.Inner.TWO,
    "path": pathlib.Path("/data"),
    "namespace": argparse.Namespace(lr=0.1, out=pathlib.Path("/x")),
    "dataclass": _Config(),
    "dictionary": _Dictionary(a=1, b=_Dictionary(c=2)),
    "list": _List([1, _List([2])]),
    "slots": _Slots(),
    "size": torch.Size([1, 2]),
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "set": {1, (2, 3)},
    "frozenset": frozenset([1]),
    "slice": slice(1, 2),
    "range": range(3),
    "fraction": fractions.Fraction(1, 2),
    "decimal": decimal.Decimal("1.5"),
    "uuid": uuid.UUID(int=1),
    "pattern": re.compile("a+"),
    "exception": ValueError("x"),
    "class": torch.optim.Adam,
    "function": torch.nn.functional.relu,
    "own_function": _function,
    "partial": functools.partial(torch.optim.Adam, lr=0.1),
    "complex": 1j,
    "integer": 10**30,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"x"),
    "none_type": type(None),
    "random": __import__("random").getstate(),
    "rng": torch.get_rng_state(),
    "optimiser": torch.optim.SGD([torch.nn.Parameter(torch.ones(2))]).state_dict(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_type_never_refuses_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.pt"
    for options in (
        {},
        {"_use_new_zipfile_serialization": False},
        {"pickle_protocol": 4},
        {"pickle_protocol": 5, "_use_new_zipfile_serialization": False},
    ):
        torch.save({"state_dict": STATE, "beside": [HARMLESS[name]]}, path, **options)
        read = read_checkpoint(path)
        assert list(read["state_dict"]) == list(STATE)
        for key, tensor in STATE.items():
            assert read["state_dict"][key].dtype == tensor.dtype, (options, key)
            assert torch.equal(read["state_dict"][key], tensor), (options, key)


def test_an_older_numpys_names_are_known_too() -> None:
    """NumPy 1 said numpy.core where NumPy 2 says numpy._core."""
    new = pickle.dumps({"x": np.float64(1), "y": np.arange(2.0)}, protocol=2)
    old = new.replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core" in old
    machine = PickleMachine(lambda _: None, lambda *_: None)
    read = machine.read(__import__("io").BytesIO(old))
    assert machine.would_run == set()
    assert [v.of for v in read.values()] == [
        "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
    ]


def test_the_versions_of_modules_are_kept(tmp_path: Path) -> None:
    """Networks' own hooks go by them, as after torch.load."""
    state = torch.nn.BatchNorm2d(2).state_dict()
    for zipped in (True, False):
        torch.save(
            {"w": state, "x": np.float64(1)},
            tmp_path / "w.pt",
            _use_new_zipfile_serialization=zipped,
        )
        assert read_checkpoint(tmp_path / "w.pt")["w"]._metadata == state._metadata  # type: ignore[attr-defined]


def test_views_of_one_storage_stay_views(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"a": whole, "b": whole[2:4], "x": np.float64(1)}, tmp_path / "w.pt")
    read = read_checkpoint(tmp_path / "w.pt")
    assert torch.equal(read["b"], whole[2:4])
    assert read["a"].untyped_storage().data_ptr() == read["b"].untyped_storage().data_ptr()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_tensors_keep_their_integers(tmp_path: Path) -> None:
    values = torch.linspace(-2, 2, 256).reshape(2, 128)
    scales, zeros = torch.tensor([0.013, 0.017]), torch.tensor([3, -5])
    try:
        whole = torch.quantize_per_tensor(values, 0.0157, 7, torch.quint8)
        rows = torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8)
    except RuntimeError as error:
        pytest.skip(f"this PyTorch quantises no longer: {error}")
    for zipped in (True, False):
        torch.save(
            {"whole": whole, "rows": rows, "x": np.float64(1)},
            tmp_path / "w.pt",
            _use_new_zipfile_serialization=zipped,
        )
        read = read_checkpoint(tmp_path / "w.pt")
        for name, wanted in (("whole", whole), ("rows", rows)):
            assert torch.equal(read[name].int_repr(), wanted.int_repr())
            assert torch.equal(read[name].dequantize(), wanted.dequantize())


class _Calls:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._made = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._made


def _touch(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_would_run_is_refused_by_name_and_does_not_run(
    tmp_path: Path, protocol: int, zipped: bool
) -> None:
    target = tmp_path / "ran"
    calls: dict[str, tuple[Any, ...]] = {
        f"{os.name if os.name == 'nt' else 'posix'}.system": (os.system, f"touch {target}"),
        "subprocess.Popen": (subprocess.Popen, ["touch", str(target)]),
        "builtins.eval": (eval, f"open({str(target)!r}, 'w')"),
        "builtins.exec": (exec, f"open({str(target)!r}, 'w')"),
        "builtins.__import__": (__import__, "antigravity"),
        "io.open": (open, str(target), "w"),
        f"{Path.__module__}.Path.touch": (Path.touch, target),  # 3.13: pathlib._local
        "tests.networks.weights.test_pickles._touch": (_touch, str(target)),
        "functools.partial": (functools.partial(_touch, str(target)),),
        "torch.serialization.load": (torch.load, str(target)),
    }
    for name, call in calls.items():
        path = tmp_path / "evil.pt"
        torch.save(
            {"state_dict": STATE, "x": _Calls(*call)},
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=zipped,
        )
        with pytest.raises(LcamError, match=rf"refused: unpickling it would run .*{name}"):
            read_checkpoint(path)
        assert not target.exists(), name
    # Handed on to another, not called: the name alone is enough.
    torch.save({"state_dict": STATE, "x": functools.partial(os.system, "true")}, path)
    with pytest.raises(LcamError, match=r"would run \w+\.system"):
        read_checkpoint(path)


def test_hostile_pickles_end_at_once(tmp_path: Path) -> None:
    """Nothing is made of what they claim, and nothing is looked into for ever."""
    nested: Any = ()
    for _ in range(60):
        nested = (nested, nested)
    bombs = {
        "nested": pickle.dumps({"x": np.float64(1), "y": nested}, protocol=2),
        "key": b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s.",
        "text": b"\x80\x02X\xff\xff\xff\xffabc.",
        "loop": b"\x80\x02]q\x00h\x00a.",
    }
    for name, content in bombs.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
        with pytest.raises(LcamError):
            read_checkpoint(tmp_path / f"{name}.pt")


def test_an_object_is_described_not_made(tmp_path: Path) -> None:
    torch.save({"w": STATE["a"], "c": _Config(), "d": _Dictionary(k=1)}, tmp_path / "w.pt")
    read = read_checkpoint(tmp_path / "w.pt")
    assert isinstance(read["c"], OpaqueObject)
    assert read["c"].of == "tests.networks.weights.test_pickles._Config"
    assert read["c"].state == {"lr": 0.1, "steps": [1, 2]}
    assert read["d"].entries == {"k": 1}
