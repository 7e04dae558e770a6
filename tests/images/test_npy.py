"""Arrays as images: all that numpy.save writes of numbers, and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy
from numpy.typing import NDArray

from lcam_cli.errors import BadImageError
from lcam_cli.images.decoder import borrowed_decoder
from lcam_cli.images.find import find_images
from lcam_cli.images.npy import Npy
from lcam_cli.images.picture import ReadOptions
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.read import read_picture
from lcam_cli.images.request import Request

OPTIONS = ReadOptions(10**6)


def read(content: bytes, options: ReadOptions = OPTIONS) -> NDArray[np.generic]:
    values = Npy().read(io.BytesIO(content), options).pixels
    assert isinstance(values, np.ndarray)
    return values


def saved(values: NDArray[np.generic], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, values, version=version)
    return file.getvalue()


def declared(descr: str, shape: str, order: str = "False", data: bytes = b"") -> bytes:
    """A file whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    line = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(line).to_bytes(2, "little") + line + data


def reason(content: bytes, options: ReadOptions = OPTIONS) -> str:
    with pytest.raises(BadImageError) as error:
        read(content, options)
    assert "\n" not in error.value.reason
    assert len(error.value.reason) < 200
    return error.value.reason


TYPES = ["bool", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_every_type_order_and_version(
    version: tuple[int, int], order: str, byte_order: str
) -> None:
    for name in TYPES:
        for shape in ((5, 4), (5, 4, 3), (5, 4, 1)):
            values = np.arange(np.prod(shape)).reshape(shape) % 3
            dtype = np.dtype(name).newbyteorder(byte_order)  # type: ignore[arg-type]
            array = np.asarray(values, dtype, order=order)  # type: ignore[arg-type]
            found = read(saved(array, version) + b"and what follows")
            np.testing.assert_array_equal(found, array)
            assert found.dtype == np.dtype(name)
            assert found.dtype.isnative


class Bomb:
    """Leaves a folder where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([[Bomb()] * 9] * 9))
    with pytest.raises(BadImageError) as error, borrowed_decoder() as decoder:
        decoder.read(Request("a.npy", preprocess=Preprocess(8, 8)))
    assert error.value.reason == (
        "an array (9, 9) of 'object' is not an image: an image is (H, W) or (H, W, C) of numbers"
    )
    assert not list(tmp_path.rglob("exploded"))


@pytest.mark.parametrize(
    "content",
    [
        saved(np.zeros((4, 4), "c8")),
        saved(np.zeros((4, 4), "U3")),
        saved(np.zeros((4, 4), "M8[s]")),
        saved(np.zeros((4, 4), "f4,i2")),
        saved(np.zeros(4)),
        saved(np.zeros(())),
        saved(np.zeros((2, 4, 4, 3))),
        declared("'|O'", "(4, 4)"),
        declared("('<f4', (900,))", "(4, 4)"),
        declared("'<f4'", "(-4, -4)"),
        declared("[('" + "x" * 5000 + "', '<f4')]", "(4, 4)"),
        declared("'<f4'", "(" + "9," * 3000 + ")"),
    ],
)
def test_other_arrays(content: bytes) -> None:
    assert "is not an image: an image is (H, W) or (H, W, C) of numbers" in reason(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\1\0",
        b"\x93NUMPY\1\0\xff\xff{",
        declared("__import__('os').mkdir('exploded')", "(4, 4)"),
        declared("'<f4'", "4"),
        declared("'<f4'", "(4.0, 4)"),
        declared("'<f4'", "(" * 1000 + ")" * 1000),
        declared("'nonsense'", "(4, 4)"),
        declared("'<f4'", "(4, 4)", "7"),
        declared("'<f4'", "(4, 4)" + " " * 50000),
        b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(100),
    ],
)
def test_damaged_headers(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason(content) == "damaged array"
    assert not list(tmp_path.iterdir())


def test_an_unknown_version() -> None:
    assert reason(b"\x93NUMPY\7\0" + bytes(100)).startswith("an array of a newer version")


def test_sizes_are_checked_before_memory_is_taken() -> None:
    tracemalloc.start()
    assert reason(declared("'<f8'", "(1000000, 1000000)")) == (
        "too many pixels: 1000000 × 1000000, over --max-pixels 1000000"
    )
    assert reason(declared("'<f8'", "(1000, 1000)", data=bytes(100))) == "truncated array"
    assert reason(declared("'<f8'", "(100, 100, 100000)")) == (
        "too many pixels: 100 × 100 × 100000, over --max-pixels 1000000"
    )
    assert reason(declared("'<f8'", "(10, 0)")) == "an image without pixels"
    assert reason(declared("'<f8'", "(10, 10, 0)")) == "an image without pixels"
    assert reason(saved(np.zeros((5, 4)))[:-1]) == "truncated array"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert read(saved(np.zeros((10, 10, 3))), ReadOptions(100)).shape == (10, 10, 3)
    reason(saved(np.zeros((10, 10, 4))), ReadOptions(100))  # as many numbers as 134 RGB pixels


@settings(max_examples=100, deadline=None)
@given(
    at=st.integers(0, 200),
    value=st.integers(0, 255),
    kept=st.integers(0, 250),
)
def test_damage_is_a_reason_or_other_numbers(at: int, value: int, kept: int) -> None:
    content = bytearray(saved(np.arange(60, dtype=np.uint16).reshape(6, 10)))
    content[at] = value
    for damaged in (bytes(content), bytes(content[:kept])):
        with contextlib.suppress(BadImageError):
            assert read(damaged).ndim in (2, 3)


def test_found_in_folders_and_tars_and_by_the_first_bytes(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    folder = tmp_path / "f"
    folder.mkdir()
    np.save(folder / "a.npy", values)
    (folder / "b.jpg").write_bytes((folder / "a.npy").read_bytes())
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(folder / "a.npy", "c.npy")
    found = find_images([str(folder), str(tmp_path / "t.tar")])
    assert [Path(path).name for path in found.paths] == ["a.npy", "b.jpg", "c.npy"]
    for path in found.paths[:2]:
        np.testing.assert_array_equal(np.array(read_picture(path)), values)
    with borrowed_decoder() as decoder:
        view = decoder.read(Request(found.paths[2]))
    np.testing.assert_array_equal(view.pixels, values)


def test_features_beside_pictures_are_passed_over(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((8, 9)))
    np.save(tmp_path / "b.npy", np.zeros(512))
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 4, 5)))
    found = find_images([str(tmp_path)])
    assert [Path(path).name for path in found.paths] == ["a.npy"]
    (line,) = found.passed_over.lines()
    assert line == f"skipped 2 arrays that are not images: {tmp_path}/b.npy …"
    assert not found.skipped
    assert find_images([str(tmp_path / "b.npy")]).paths  # named itself, its reading says why
