"""Maps of one value everywhere: counted as they are stored, whatever becomes of the file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lcam_cli.maps.flat import find_flat, find_flat_rows, is_flat
from lcam_cli.maps.hdf5.groups import join_methods
from lcam_cli.maps.hdf5.joining import join
from lcam_cli.maps.hdf5.merging import merge
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.resuming import ReusablePart
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.png import PngWriter
from lcam_cli.maps.record import MapBatch, Shard
from tests.maps.making import CAPACITY, INFO, SIZE, make_batch, writer


def some_flat(first: int, rows: int, *flat: int) -> MapBatch:
    """Rows of which some, by their number in the run, are flat: zeros, or all one value."""
    batch = make_batch(first, rows)
    for row in flat:
        batch.saliency[row - first] = 0 if row % 2 else 0.25
    return batch


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6, 7, 8, 9, 224])
def test_the_flat_maps_of_a_batch_are_found_wherever_the_others_differ(height: int) -> None:
    """In a batch as tall as maps, one pixel anywhere else is enough for a map not to be flat."""
    maps = np.full((3 * height, height, 5), 0.25, np.float16)
    for line in range(height):
        maps[3 * line + 1, line, line % 5] = 0.5
    flat = [row for row in range(3 * height) if row % 3 != 1]
    assert find_flat(maps).tolist() == flat == np.flatnonzero(is_flat(maps)).tolist()
    assert find_flat(maps[1::3]).tolist() == [] == find_flat(maps[:0]).tolist()


def count(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file.attrs["flat_rows"])


def test_which_maps_are_flat() -> None:
    maps = np.zeros((4, *SIZE), np.float16)
    maps[1] = 0.5
    maps[2, -1, -1] = 0.001
    maps[3, 0, 0] = -0.0
    assert is_flat(maps).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("dtype", "least"), [("float32", 1e-6), ("float16", 1e-3), ("uint8", 1 / 255)]
)
def test_they_are_counted_as_they_are_stored(tmp_path: Path, dtype: str, least: float) -> None:
    """0.5 and a little more is another value only where the type can tell."""
    batch = make_batch(0, 2)
    batch.saliency[:] = 128 / 255
    batch.saliency[0, 3, 2] += 1.01 * least
    batch.saliency[1, 3, 2] += 0.01 * least if dtype != "float32" else 0
    with writer(tmp_path / "maps.h5", map_dtype=dtype) as out:
        out.append(batch)
        out.finish()
    assert count(tmp_path / "maps.h5") == 1
    with MapsFile(tmp_path / "maps.h5") as maps:
        assert maps.flat_rows == 1
        assert maps.find_flat_rows() == [1]
        assert is_flat(maps.rows(0, 2).saliency).tolist() == [False, True]
        found = maps.flat_summary()
        assert found is not None
        assert (found.rows, found.path, found.class_index) == (1, batch.paths[1], 1)


def test_a_line_that_is_flat_is_no_flat_map(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        maps = np.zeros((600, 9, 4), np.float16)
        maps[:, 1] = 1  # none of the lines that are looked at first
        maps[[0, 255, 256, 599]] = 0.5
        assert find_flat_rows(file.create_dataset("saliency", data=maps), 599) == [0, 255, 256]


def test_a_run_that_goes_on_counts_what_it_keeps(tmp_path: Path) -> None:
    path = tmp_path / "maps.h5"
    with writer(path) as out:
        out.append(some_flat(0, 4, 1, 3))
        out.append(some_flat(4, 4, 4))
    assert count(path) == -1, "not complete"
    with MapsFile(path) as maps:
        assert (maps.flat_rows, maps.flat_summary()) == (None, None)
    with writer(path, resume=True) as out:
        out.truncate(4, 0)
        out.append(some_flat(4, 4, 6, 7))
        out.finish()
    assert count(path) == 4
    with MapsFile(path) as maps:
        assert maps.find_flat_rows() == [1, 3, 6, 7]
    with writer(path, resume=True) as done:
        assert done.complete
        first = done.flat_summary()
        assert first is not None
        assert (first.rows, first.class_index) == (4, 1)


def test_a_file_that_is_made_anew_for_more_rows_keeps_its_count(tmp_path: Path) -> None:
    path = tmp_path / "maps.h5"
    with writer(path, capacity=dataclasses.replace(CAPACITY, rows=4)) as out:
        out.append(some_flat(0, 4, 2))
    with writer(path, resume=True) as out:
        out.append(some_flat(4, 4, 5))
        out.finish()
    assert count(path) == 2


def shard(path: Path, first: int, stop: int, *flat: int) -> Path:
    info = dataclasses.replace(INFO, shard=Shard(first, stop, 6, "x"), classes=("a", "b"))
    with Hdf5Writer(path, info, size=SIZE, capacity=CAPACITY) as out:
        out.append(some_flat(first, stop - first, *flat))
        out.finish()
    return path


def test_joined_files_have_the_sum(tmp_path: Path) -> None:
    shards = [shard(tmp_path / "0.h5", 0, 4, 0, 3), shard(tmp_path / "1.h5", 4, 6, 5)]
    merge(tmp_path / "merged.h5", shards)
    assert count(tmp_path / "merged.h5") == 3
    # Of the first shard only two rows are kept, as of one that was not finished.
    kept = [ReusablePart(shards[0], range(2), 2, []), ReusablePart(shards[1], range(2, 4), 2, [])]
    join(tmp_path / "joined.h5", kept)
    assert count(tmp_path / "joined.h5") == 2
    join_methods(tmp_path / "all.h5", {"gradcam": tmp_path / "merged.h5"})
    for path, method in (("merged.h5", None), ("joined.h5", None), ("all.h5", "gradcam")):
        with MapsFile(tmp_path / path, method) as maps:
            assert maps.flat_rows == len(maps.find_flat_rows())
            assert maps.info.classes == ("a", "b")


def test_files_of_older_versions_say_nothing_of_it(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.h5", 0, 6, 0)
    with h5py.File(path, "r+") as file:
        del file.attrs["flat_rows"], file["classes"]
    with MapsFile(path) as maps:
        assert (maps.flat_rows, maps.flat_summary(), maps.info.classes) == (None, None, ())
    merge(tmp_path / "merged.h5", [path])
    assert count(tmp_path / "merged.h5") == 1, "merging looks"


@pytest.mark.parametrize("lie", ["many", 2.5])
def test_a_count_that_is_no_number_is_refused(tmp_path: Path, lie: Any) -> None:
    path = shard(tmp_path / "0.h5", 0, 6)
    with h5py.File(path, "r+") as file:
        file.attrs["flat_rows"] = lie
    with pytest.raises(Exception, match="flat_rows is missing or not of type int"):
        MapsFile(path)


def test_png_folders_count_them_too(tmp_path: Path) -> None:
    batch = some_flat(0, 4, 1)
    batch.saliency[2] = 0.5
    batch.saliency[2, 0, 0] = 0.501  # the same grey
    with PngWriter(tmp_path / "maps", INFO) as out:
        out.append(batch)
    with PngWriter(tmp_path / "maps", INFO, resume=True) as out:
        out.append(some_flat(4, 2, 5))
        found = out.flat_summary()
        assert found is not None
        assert (found.rows, found.path, found.class_index) == (3, batch.paths[1], 1)
        out.truncate(5, 0)
        out.finish()
    assert json.loads((tmp_path / "maps" / "info.json").read_text())["flat_rows"] == 2
