"""A file that ends the process it is tried out in is refused; the next one has a new process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lcam_cli import sandbox
from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.sandbox import PROCESS, TOO_LARGE, check
from lcam_cli.maps.hdf5.sandbox_process import _is_for_memory
from tests.maps.making import make_batch, writer

CRASH = "import os, sys; sys.stdin.readline(); os.abort()"
HANG = (
    "import signal, sys; sys.stdin.readline(); "
    "signal.setitimer(signal.ITIMER_PROF, 0.05); [0 for _ in iter(int, 1)]"
)

GREEDY = f"import os, sys; sys.stdin.readline(); os._exit({TOO_LARGE})"


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    PROCESS.close()
    yield
    PROCESS.close()


@pytest.mark.parametrize(
    ("code", "says"),
    [(CRASH, "crashes HDF5"), (HANG, "too long"), (GREEDY, "too much memory")],
)
def test_what_ends_the_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    with writer(tmp_path / "maps.h5") as out:
        out.append(make_batch(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "_START", code)
        with pytest.raises(LcamError, match=says):
            check(tmp_path / "maps.h5", None)
    check(tmp_path / "maps.h5", None)
    check(tmp_path / "maps.h5", None)


def test_what_is_in_no_order_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "maps.h5").write_bytes(b"nothing")
    check(tmp_path / "maps.h5", None)
    check(tmp_path / "none.h5", None)


@pytest.mark.parametrize(
    ("cause", "for_memory"),
    [
        (MemoryError(), True),
        (OSError("Can't synchronously read data (memory allocation failed)"), True),
        (OSError("Can't synchronously read data (wrong B-tree signature)"), False),
    ],
)
def test_what_memory_was_refused_for_is_told_by_the_cause(
    cause: Exception, for_memory: bool
) -> None:
    error = LcamError("maps.h5: it cannot be read")
    error.__cause__ = cause
    assert _is_for_memory(error) == for_memory
