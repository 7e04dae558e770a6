from __future__ import annotations

import dataclasses
import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.maps.hdf5 import reader as hdf5_reader
from lcam_cli.maps.hdf5 import texts
from lcam_cli.maps.hdf5.attributes import read_joined_ids
from lcam_cli.maps.hdf5.joining import join
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.resuming import ReusablePart
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import MapBatch
from tests.maps.making import CAPACITY, INFO, SIZE, make_batch, writer

ERROR = {"float32": 0.0, "float16": 2.0**-12, "uint8": 0.5 / 255 + 1e-7}


def assert_same(got: MapBatch, want: MapBatch, error: float = 0.0) -> None:
    np.testing.assert_allclose(got.saliency, want.saliency, rtol=0, atol=error)
    assert (got.cam is None) == (want.cam is None)
    if got.cam is not None and want.cam is not None:
        np.testing.assert_array_equal(got.cam, want.cam)
    assert (got.paths, got.class_names) == (want.paths, want.class_names)
    for name in ("class_index", "predicted_index", "confidence", "crop_box"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


# Whatever a file name and a class name may hold; bytes that are not UTF-8 are surrogate escapes.
names = st.binary(min_size=1, max_size=30).map(
    lambda raw: raw.replace(b"\0", b"_").decode("utf-8", "surrogateescape")
)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(sorted(ERROR)), cam=st.booleans())
def test_round_trip(data: st.DataObject, dtype: Any, cam: bool) -> None:
    rows = data.draw(st.integers(1, 5))
    floats = st.floats(0, 1, width=32)
    batch = dataclasses.replace(
        make_batch(0, rows, cam=cam),
        saliency=data.draw(hnp.arrays(np.float32, (rows, *SIZE), elements=floats)),
        paths=data.draw(st.lists(names, min_size=rows, max_size=rows)),
        class_names=data.draw(st.lists(names, min_size=rows, max_size=rows)),
    )
    capacity = Capacity.of(batch.paths, batch.class_names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.h5")
        with writer(path, map_dtype=dtype, capacity=capacity) as out:
            out.append(batch)
            out.finish()
        with MapsFile(path) as maps:
            assert (len(maps), maps.complete, maps.map_dtype) == (rows, True, dtype)
            assert_same(maps.rows(0, rows), batch, ERROR[dtype])


@pytest.mark.parametrize("dtype", sorted(ERROR))
def test_maps_are_stored_as_their_nearest_numbers(tmp_path: Path, dtype: Any) -> None:
    """Every number of a type, those half-way between two and their neighbours; also once copied."""
    # Half-way, it is the even one.
    exact = {
        "float32": lambda V: V,
        "float16": lambda V: torch.from_numpy(V).half().numpy(),
        "uint8": lambda V: np.array([round(float(v)) for v in (V * np.float32(255)).flat]),
    }[dtype]
    steps = np.arange(511, dtype=np.float32) / 510
    halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    values = np.concatenate([steps, halves, (halves[1:] + halves[:-1]) / 2])
    near = [values, np.nextafter(values, np.float32(0)), np.nextafter(values, np.float32(1))]
    V = np.resize(np.concatenate(near), (2, 200, 250))
    batch = dataclasses.replace(make_batch(0, 2), saliency=V)
    path = tmp_path / "maps.h5"
    settings = {"map_dtype": dtype, "size": V.shape[1:], "resume": True}
    with writer(path, capacity=Capacity.of(batch.paths, batch.class_names), **settings) as out:
        out.append(batch)
    with writer(path, **settings) as out:  # it has more room, so the rows are copied
        out.append(dataclasses.replace(batch, saliency=V[::-1]))
        out.finish()
    with h5py.File(path) as file:
        stored = file["saliency"][:]
    wanted = exact(V).reshape(V.shape)
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, np.concatenate([wanted, wanted[::-1]]))


def test_plain_h5py_reads_what_the_format_says(tmp_path: Path) -> None:
    batch = make_batch(0, 3, skipped=2)
    with writer(tmp_path / "maps.h5", map_dtype="float16") as out:
        out.append(batch)
        out.finish()
    with h5py.File(tmp_path / "maps.h5") as file:
        assert file["saliency"].dtype == np.float16
        assert file["saliency"].shape == (3, *SIZE)
        assert file["saliency"].chunks == (1, *SIZE)
        assert list(file["path"].asstr()) == batch.paths
        assert list(file["class_name"].asstr()) == batch.class_names
        assert list(file["skipped/reason"].asstr()) == ["empty file"] * 2
        assert file["class_index"].dtype == np.int32
        assert file["crop_box"].shape == (3, 4)
        assert file.attrs["schema"] == "lcam-maps"
        assert file.attrs["schema_version"] == 1
        assert file.attrs["complete"] == np.True_
        assert file.attrs["root"] == "/pictures"
        assert file.attrs["method_params"] == '{"mode": "img"}'


def test_root_may_have_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, root="/caf\udcff")
    with Hdf5Writer(tmp_path / "m.h5", info, size=SIZE, capacity=CAPACITY) as out:
        out.append(make_batch(0, 1))
    with MapsFile(tmp_path / "m.h5") as maps:
        assert maps.info.root == "/caf\udcff"
        assert maps.resolve("a.jpg") == Path("/caf\udcff/a.jpg")


def test_batches_cover_all_rows_once(tmp_path: Path) -> None:
    with writer(tmp_path / "maps.h5") as out:
        for first in range(0, 20, 5):
            out.append(make_batch(first, 5, skipped=1))
        out.finish()
    with MapsFile(tmp_path / "maps.h5") as maps:
        read = list(maps.batches(7))
        assert [len(batch) for batch in read] == [7, 7, 6]
        assert [path for batch in read for path in batch.paths] == maps.paths()
        assert_same(maps.rows(0, 20), make_batch(0, 20))
        assert [one.path for one in maps.skipped] == [f"bad {n}.jpg" for n in (0, 5, 10, 15)]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_file_for_very_few_rows(tmp_path: Path, rows: int) -> None:
    capacity = dataclasses.replace(CAPACITY, rows=rows, skipped=rows)
    path = tmp_path / "maps.h5"
    with writer(path, capacity=capacity) as out:
        out.append(make_batch(0, rows))
        out.truncate(0, 0)
        out.append(make_batch(7, rows, skipped=1))
        with pytest.raises(ValueError, match="room"):
            out.append(make_batch(0, 1))
    with MapsFile(path) as maps:
        assert_same(maps.rows(0, rows), make_batch(7, rows))


def test_run_of_unreadable_inputs_alone(tmp_path: Path) -> None:
    with writer(tmp_path / "maps.h5") as out:
        out.append(make_batch(0, 0, cam=False, skipped=3))
        out.finish()
    with MapsFile(tmp_path / "maps.h5") as maps:
        assert (len(maps), len(maps.skipped), maps.cam_size) == (0, 3, None)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1])
def test_saliency_outside_its_range_is_never_written(tmp_path: Path, value: float) -> None:
    batch = make_batch(0, 2)
    batch.saliency[1, 2, 3] = value
    with writer(tmp_path / "maps.h5") as out, pytest.raises(ValueError, match="saliency"):
        out.append(batch)


def test_flushes_every_thousand_rows(tmp_path: Path) -> None:
    path = tmp_path / "maps.h5"
    with writer(path, capacity=dataclasses.replace(CAPACITY, rows=1200)) as out:
        out.append(make_batch(0, 999))
        assert len(MapsFile(path)) == 0
        out.append(make_batch(999, 1))
        assert len(MapsFile(path)) == 1000


def test_flushes_after_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    path = tmp_path / "maps.h5"
    with writer(path) as out:
        out.append(make_batch(0, 1))
        assert len(MapsFile(path)) == 0
        now += 10
        out.append(make_batch(1, 1))
        assert len(MapsFile(path)) == 2


# Existing outputs


def test_existing_file_is_left_alone_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "maps.h5"
    path.write_bytes(b"something else")
    with pytest.raises(LcamError, match="exists"):
        writer(path)
    with pytest.raises(LcamError, match="HDF5"):
        writer(path, resume=True)
    with writer(path, overwrite=True) as out:
        assert path.read_bytes() == b"something else"
        out.append(make_batch(0, 1))
    assert len(MapsFile(path)) == 1


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LcamError, match="cannot write"):
        writer(tmp_path / "file" / "maps.h5")
    with pytest.raises(LcamError, match="folder"):
        writer(tmp_path)


def test_resumed_file_equals_one_never_stopped(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.h5", tmp_path / "resumed.h5"
    with writer(whole, map_dtype="float16") as out:
        for first in (0, 4, 8):
            out.append(make_batch(first, 4, skipped=1))
        out.finish()
    with writer(resumed, map_dtype="float16") as out:
        out.append(make_batch(0, 4, skipped=1))
        out.append(make_batch(4, 4, skipped=1))
    with writer(resumed, map_dtype="float16", resume=True) as out:
        assert (out.rows, len(out.skipped), out.complete) == (8, 2, False)
        assert out.paths == make_batch(0, 8).paths
        out.truncate(4, 1)
        assert len(MapsFile(resumed)) == 4
        for first in (4, 8):
            out.append(make_batch(first, 4, skipped=1))
        out.finish()
    with h5py.File(whole) as a, h5py.File(resumed) as b:
        assert a["saliency"][:].tobytes() == b["saliency"][:].tobytes()
        assert list(a["path"]) == list(b["path"])
        assert list(a["skipped/path"]) == list(b["skipped/path"])
    with writer(resumed, map_dtype="float16", resume=True) as out:
        assert out.complete
        with pytest.raises(ValueError, match="finished"):
            out.append(make_batch(0, 1))


def test_resume_onto_what_is_no_maps_file_says_how_to_write_it_anew(tmp_path: Path) -> None:
    (tmp_path / "maps.h5").write_bytes(b"an image")
    with pytest.raises(LcamError, match="write it again with --overwrite"):
        writer(tmp_path / "maps.h5", resume=True)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"method": "rise"}, {}),
        ({"method_params": {"mode": "fm"}}, {}),
        ({"weights": "sha256:00"}, {}),
        ({"root": "/elsewhere"}, {}),
        ({"classes_explained": {"classes": [2]}}, {}),
        ({}, {"map_dtype": "uint8"}),
        ({}, {"size": (7, 7)}),
    ],
)
def test_resume_refuses_other_settings(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any]
) -> None:
    with writer(tmp_path / "maps.h5") as out:
        out.append(make_batch(0, 1))
    settings: dict[str, Any] = {
        "size": SIZE,
        "capacity": CAPACITY,
        "map_dtype": "float32",
        **options,
    }
    with pytest.raises(LcamError):
        Hdf5Writer(
            tmp_path / "maps.h5", dataclasses.replace(INFO, **change), resume=True, **settings
        )


def test_files_that_say_no_classes_are_resumed_and_still_say_none(tmp_path: Path) -> None:
    """Those of older versions; what their rows are of is not known later either."""
    old = dataclasses.replace(INFO, classes_explained={})
    small = dataclasses.replace(CAPACITY, rows=1)
    for info, capacity in ((old, small), (INFO, CAPACITY)):
        settings: dict[str, Any] = {"size": SIZE, "capacity": capacity, "resume": True}
        with Hdf5Writer(tmp_path / "maps.h5", info, **settings) as out:
            out.append(make_batch(out.rows, 1))
    with h5py.File(tmp_path / "maps.h5") as file:
        assert len(file["path"]) == 2
        assert "classes_explained" not in file.attrs


@pytest.mark.parametrize("dtype", sorted(ERROR))
def test_a_resumed_file_grows_with_its_inputs(tmp_path: Path, dtype: Any) -> None:
    path, whole = tmp_path / "maps.h5", tmp_path / "whole.h5"
    small = Capacity(
        rows=4, skipped=2, path_bytes=len("folder/ü 3.jpg".encode()), class_name_bytes=7
    )
    large = Capacity(rows=140, skipped=9, path_bytes=20, class_name_bytes=20)
    with writer(path, capacity=small, map_dtype=dtype) as out:
        out.append(make_batch(0, 4, skipped=2))
    with (
        pytest.raises(ValueError, match="room"),
        writer(path, map_dtype=dtype, resume=True, capacity=small) as out,
    ):
        out.append(make_batch(4, 1))
    with writer(path, capacity=large, map_dtype=dtype, resume=True) as out:
        assert out.paths == make_batch(0, 4).paths
        out.append(make_batch(4, 95, skipped=7))
    larger = dataclasses.replace(large, rows=141, path_bytes=40)
    with writer(path, capacity=larger, map_dtype=dtype, resume=True) as out:
        out.append(make_batch(99, 42))
        out.finish()
    with writer(whole, capacity=larger, map_dtype=dtype) as out:
        for batch in (make_batch(0, 4, skipped=2), make_batch(4, 95, skipped=7)):
            out.append(batch)
        out.append(make_batch(99, 42))
        out.finish()
    with h5py.File(whole) as a, h5py.File(path) as b:
        for name in [*a, "skipped/path", "skipped/reason"]:
            if name != "skipped":
                np.testing.assert_array_equal(a[name][:], b[name][:], name)
        assert a["saliency"].dtype == b["saliency"].dtype
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_unread_inputs_are_kept_before_the_first_map(tmp_path: Path) -> None:
    """Nobody knows yet whether there will be raw maps."""
    path = tmp_path / "maps.h5"
    nothing = make_batch(0, 0, skipped=2)
    with writer(path) as out:
        out.append(nothing)
        out.flush()
        with MapsFile(path) as maps:  # as after a kill
            assert [s.path for s in maps.skipped] == ["bad 0.jpg", "bad 1.jpg"]
            assert (len(maps), maps.complete) == (0, False)
    for cam, more in ((True, "a"), (False, "b")):
        copy = path.with_name(f"{more}.h5")
        copy.write_bytes(path.read_bytes())
        with writer(copy, resume=True) as out:
            assert len(out.skipped) == 2
            out.append(make_batch(5, 3, cam=cam, skipped=1))
            out.finish()
        with MapsFile(copy) as maps:
            assert_same(maps.rows(0, 3), make_batch(5, 3, cam=cam))
            assert [s.path for s in maps.skipped] == ["bad 0.jpg", "bad 1.jpg", "bad 5.jpg"]


def test_what_a_failed_sync_lost_never_becomes_part_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells of a failed write-back once; the next sync would succeed."""
    path = tmp_path / "maps.h5"
    out = writer(path)
    out.append(make_batch(0, 3))
    out.flush()
    out.append(make_batch(3, 3))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(LcamError, match=r"maps\.h5: "):
            out.flush()
    out.close()
    with MapsFile(path) as maps:
        assert len(maps) == 3


def failing(_descriptor: int) -> None:
    raise OSError(errno.EIO, "")


def test_resume_refuses_a_file_laid_out_by_others(tmp_path: Path) -> None:
    path, copy = tmp_path / "maps.h5", tmp_path / "copy.h5"
    with writer(path) as out:
        out.append(make_batch(0, 3))
    with h5py.File(path) as old, h5py.File(copy, "w") as new:
        new.attrs.update(old.attrs)
        for name in [*old, "skipped/path", "skipped/reason"]:
            if name != "skipped":
                data = old[name]
                new.create_dataset(name, data=data[:], maxshape=data.maxshape, dtype=data.dtype)
    assert_same(MapsFile(copy).rows(0, 3), make_batch(0, 3))
    with pytest.raises(LcamError, match="cannot be continued"):
        writer(copy, resume=True)


# Strangers' files


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "maps.h5"
    with writer(path) as out:
        out.append(make_batch(0, 4))
        out.finish()
    return path


def replace(file: h5py.File, name: str, **settings: Any) -> None:
    del file[name]
    file.create_dataset(name, **settings)


def external_link(file: h5py.File) -> None:
    del file["saliency"]
    file["saliency"] = h5py.ExternalLink("../other.h5", "saliency")


def external_storage(file: h5py.File) -> None:
    replace(
        file,
        "saliency",
        shape=(4, *SIZE),
        dtype="u1",
        external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)],
    )


def virtual(source: str) -> Any:
    def change(file: h5py.File) -> None:
        del file["saliency"]
        join = h5py.VirtualLayout((4, *SIZE), "f4")
        join[:] = h5py.VirtualSource(source, "saliency", (4, *SIZE))
        file.create_virtual_dataset("saliency", join)

    return change


def virtual_in_part(file: h5py.File) -> None:
    del file["saliency"]
    join = h5py.VirtualLayout((4, *SIZE), "f4")
    join[:1] = h5py.VirtualSource("shard.h5", "saliency", (4, *SIZE))[:1]
    file.create_virtual_dataset("saliency", join)


def virtual_by_pattern(file: h5py.File) -> None:
    """HDF5 puts a number for ``%b``, so that a file of that very name says nothing."""
    del file["saliency"]
    endless = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((4, *SIZE), (endless, *SIZE))
    space.select_hyperslab((0, 0, 0), (endless, 1, 1), (1, *SIZE), (1, *SIZE))
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    one = h5py.h5s.create_simple((1, *SIZE))
    creation.set_virtual(space, b"%b.h5", b"saliency", one)
    h5py.h5d.create(file.id, b"saliency", h5py.h5t.IEEE_F32LE, space, dcpl=creation)


def soft_link_loop(file: h5py.File) -> None:
    del file["path"], file["class_name"]
    file["path"] = h5py.SoftLink("/class_name")
    file["class_name"] = h5py.SoftLink("/path")


def one_row_of_four(file: h5py.File) -> None:
    replace(file, "saliency", shape=(4, *SIZE), dtype="f4", chunks=(1, *SIZE))
    file["saliency"][0] = 0.5


def billions_of_rows(file: h5py.File) -> None:
    for name in ("class_index", "predicted_index", "confidence", "crop_box", "cam", "saliency"):
        data = file[name][:]
        shape = (1 << 40, *data.shape[1:])
        replace(file, name, shape=shape, dtype=data.dtype, chunks=(1, *shape[1:]))
        file[name][0] = data[0]
    for name in ("path", "class_name"):
        replace(file, name, shape=(1 << 40,), dtype="S20", chunks=(1024,))
        file[name][0] = b"a.jpg"


def value(name: str, wrong: float) -> Any:
    def change(file: h5py.File) -> None:
        file[name][0] = wrong

    return change


CHANGES = {
    "no saliency": lambda f: f.__delitem__("saliency"),
    "no skipped": lambda f: f.__delitem__("skipped"),
    "saliency is a group": lambda f: (f.__delitem__("saliency"), f.create_group("saliency")),
    "saliency of integers": lambda f: replace(f, "saliency", data=np.ones((4, *SIZE), "i8")),
    "saliency flat": lambda f: replace(f, "saliency", data=np.ones((4, 30), "f4")),
    "saliency short": lambda f: f["saliency"].resize(3, axis=0),
    "rows without data": lambda f: replace(f, "saliency", shape=(4, *SIZE), dtype="f4"),
    "rows of terabytes": lambda f: replace(
        f, "saliency", shape=(4, 1 << 20, 1 << 20), chunks=(1, 64, 64), dtype="f4"
    ),
    "paths are numbers": lambda f: replace(f, "path", data=np.arange(4)),
    "box of three": lambda f: replace(f, "crop_box", data=np.ones((4, 3), "f4")),
    "NaN": value("saliency", np.nan),
    "too bright": value("saliency", 1.5),
    "confidence": value("confidence", np.inf),
    "endless box": value("crop_box", np.inf),
    "cam": value("cam", np.nan),
    "negative class": value("class_index", -1),
    "other schema": lambda f: f.attrs.modify("schema", "other"),
    "newer schema": lambda f: f.attrs.modify("schema_version", 2),
    "no method": lambda f: f.attrs.__delitem__("method"),
    "method is a number": lambda f: f.attrs.__setitem__("method", 3),
    "broken JSON": lambda f: f.attrs.__setitem__("preprocess", "{"),
    "JSON list": lambda f: f.attrs.__setitem__("preprocess", "[]"),
    "classes are a list": lambda f: f.attrs.__setitem__("classes_explained", "[]"),
    "ids are no JSON": lambda f: f.attrs.__setitem__("joined_files", "{"),
    "external link": external_link,
    "external storage": external_storage,
    "shard above": virtual("../other.h5"),
    "shard missing": virtual("missing.h5"),
    "shard absolute": virtual("/etc/hostname"),
    "shard is itself": virtual("."),
    "shard is a link to above": virtual("link.h5"),
    "shards by a pattern": virtual_by_pattern,
    "one row joined of four": virtual_in_part,
    "links in a loop": soft_link_loop,
    "folder within itself": lambda f: (
        f.__delitem__("skipped"),
        f.__setitem__("skipped", f["/"]),
    ),
    "one row of four": one_row_of_four,
    "billions of rows": billions_of_rows,
    "chunks of gigabytes": lambda f: replace(
        f, "class_index", shape=(4,), maxshape=(None,), chunks=(1 << 28,), dtype="i4"
    ),
    "texts of megabytes": lambda f: replace(f, "path", data=np.zeros(4, "S1000000")),
    "paths are pointers": lambda f: replace(f, "path", shape=(4,), dtype=h5py.ref_dtype),
    "boxes in pairs": lambda f: replace(f, "crop_box", data=np.zeros((4, 4), "f4,f4")),
    "many roots": lambda f: f.attrs.__setitem__("root", ["/a", "/b"]),
    "root that ends early": lambda f: f.attrs.create("root", np.bytes_(b"/a\0b")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_strange_files_are_refused_by_name(finished: Path, change: Any) -> None:
    other = finished.parent.parent / "other.h5"
    for copy in (other, finished.parent / "shard.h5", finished.parent / "%b.h5"):
        copy.write_bytes(finished.read_bytes())
    (finished.parent / "link.h5").symlink_to(other)
    with h5py.File(finished, "r+") as file:
        change(file)
    with pytest.raises(LcamError, match=r"maps\.h5"), MapsFile(finished) as maps:
        maps.rows(0, 4)


def test_shards_beside_the_file_are_read(finished: Path) -> None:
    (finished.parent / "shard.h5").write_bytes(finished.read_bytes())
    with h5py.File(finished, "r+") as file:
        virtual("shard.h5")(file)
    with MapsFile(finished) as maps:
        assert_same(maps.rows(0, 4), make_batch(0, 4))


def test_a_shard_that_was_written_anew_is_refused(finished: Path) -> None:
    """Its rows would be read as the old ones."""
    folder = finished.parent
    first, second, joined = folder / "first.h5", folder / "second.h5", folder / "joined.h5"
    for shard, begin in ((first, 0), (second, 2)):
        with writer(shard) as out:
            out.append(make_batch(begin, 2))
            out.finish()
    kept = [ReusablePart(first, range(2), 2, []), ReusablePart(second, range(2, 4), 2, [])]
    join(joined, kept)
    with MapsFile(joined) as maps:
        assert_same(maps.rows(0, 4), make_batch(0, 4))
    joined.rename(folder / "best.h5")
    with writer(second, overwrite=True) as out:
        out.append(make_batch(7, 2))
        out.finish()
    with pytest.raises(LcamError, match=r"best\.h5 joins second\.h5, which has been rewritten"):
        MapsFile(folder / "best.h5")
    # Made again it is read.
    join(joined, kept)
    MapsFile(joined).close()


@pytest.mark.parametrize("without", ["shard", "joined"])
def test_joined_files_of_older_versions_are_read(finished: Path, without: str) -> None:
    shard, joined = finished, finished.parent / "joined.h5"
    if without == "shard":
        with h5py.File(shard, "r+") as file:
            del file.attrs["file_id"]
    join(joined, [ReusablePart(shard, range(4), 4, [])])
    if without == "joined":
        with h5py.File(joined, "r+") as file:
            del file.attrs["joined_files"]
    with MapsFile(joined) as maps:
        assert_same(maps.rows(0, 4), make_batch(0, 4))


def test_ids_of_thousands_of_shards_have_room(tmp_path: Path) -> None:
    names = {f"{'shard' * 20}.from-{number:07}.h5": "0" * 32 for number in range(5000)}
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file.attrs["joined_files"] = json.dumps(names)
        assert read_joined_ids(file.attrs) == names


def test_shards_may_have_any_name(finished: Path) -> None:
    (finished.parent / "100%b.h5").write_bytes(finished.read_bytes())
    with h5py.File(finished, "r+") as file:
        virtual("100%%b.h5")(file)
    with MapsFile(finished) as maps:
        assert_same(maps.rows(0, 4), make_batch(0, 4))


def test_texts_of_any_length_are_read_a_block_at_a_time(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_BLOCK_BYTES", 100)
    with MapsFile(finished) as maps:
        assert maps.paths() == make_batch(0, 4).paths
    with h5py.File(finished, "r+") as file:
        replace(file, "path", data=["a", "", "c" * 1000, "d"], dtype=h5py.string_dtype())
    with MapsFile(finished) as maps:
        assert maps.paths() == ["a", "", "c" * 1000, "d"]
    monkeypatch.setattr(texts, "_MOST_BYTES", 1000)
    with MapsFile(finished) as maps, pytest.raises(LcamError, match="text"):
        maps.paths()


def test_large_maps_come_in_small_batches(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_reader, "_MOST_BATCH_BYTES", 3 * 4 * 6 * 5)
    with MapsFile(finished) as maps:
        assert [len(batch) for batch in maps.batches(4096)] == [3, 1]


def test_cut_or_garbled_files_are_refused(finished: Path) -> None:
    raw = finished.read_bytes()
    for part in (b"", b"\x89HDF\r\n\x1a\n", raw[:500], raw[:3000]):
        finished.write_bytes(part)
        with pytest.raises(LcamError):
            MapsFile(finished)
    finished.write_bytes(b"an image")
    with pytest.raises(
        LcamError, match="not an HDF5 file, or it is damaged\npass a maps file: lcam"
    ):
        MapsFile(finished)
    with pytest.raises(LcamError, match="a folder; only HDF5 files can be evaluated"):
        MapsFile(finished.parent)
    with pytest.raises(LcamError, match="no maps file"):
        MapsFile(finished.parent / "none.h5")


def test_rows_never_lead_out_of_the_root(finished: Path) -> None:
    with MapsFile(finished) as maps:
        assert maps.resolve("a/b.jpg") == Path("/pictures/a/b.jpg")
        assert maps.resolve("a.jpg", Path("/moved")) == Path("/moved/a.jpg")
        assert maps.resolve("/moved/a.jpg", Path("/moved")) == Path("/moved/a.jpg")
        for row in ("../a.jpg", "a/../../b.jpg", "/etc/passwd", "/pictures/a.jpg", "", "a\0"):
            with pytest.raises(BadImageError):
                maps.resolve(row)
        for row in ("/pictures/a.jpg", "/moved/../a.jpg", "/movedtoo/a.jpg"):
            with pytest.raises(BadImageError):
                maps.resolve(row, Path("/moved"))
