"""A maps file knows the names of all classes, so that labels by name need nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.png import PngWriter
from lcam_cli.maps.record import MapsInfo
from tests.maps.making import CAPACITY, INFO, SIZE, make_batch

NAMES = ("cat", "tench, Tinca tinca", "Körper \udcff", "")


def named(*names: str) -> MapsInfo:
    return dataclasses.replace(INFO, classes=names)


def write(path: Path, info: MapsInfo, *, finish: bool = True, **options: bool) -> None:
    with Hdf5Writer(path, info, size=SIZE, capacity=CAPACITY, **options) as out:
        out.append(make_batch(out.rows, 2))
        if finish:
            out.finish()


def test_they_come_back_and_plain_h5py_reads_them(tmp_path: Path) -> None:
    write(tmp_path / "maps.h5", named(*NAMES))
    with MapsFile(tmp_path / "maps.h5") as maps:
        assert maps.info.classes == NAMES
        assert maps.difference(named(*NAMES), SIZE, "float16") == ""
    with h5py.File(tmp_path / "maps.h5") as file:
        assert file["classes"].shape == (4,)
        assert list(file["classes"].asstr()[:2]) == list(NAMES[:2])


def test_a_thousand_take_little_room(tmp_path: Path) -> None:
    names = [f"class {i}, of a family that has {i} names" for i in range(1000)]
    write(tmp_path / "maps.h5", named(*names, "one that is long " * 8))
    with h5py.File(tmp_path / "maps.h5") as file:
        assert file["classes"].id.get_storage_size() < 20_000


def test_a_run_that_goes_on_wants_the_same_names(tmp_path: Path) -> None:
    write(tmp_path / "maps.h5", named("cat", "dog"), finish=False)
    with pytest.raises(LcamError, match="the classes have other names or another order"):
        write(tmp_path / "maps.h5", named("dog", "cat"), resume=True)
    write(tmp_path / "maps.h5", named("cat", "dog"), resume=True)
    with MapsFile(tmp_path / "maps.h5") as maps:
        assert (len(maps), maps.info.classes) == (4, ("cat", "dog"))


def test_a_run_of_an_older_version_goes_on_without(tmp_path: Path) -> None:
    write(tmp_path / "maps.h5", named(), finish=False)
    with h5py.File(tmp_path / "maps.h5", "r+") as file:
        assert "classes" not in file
    write(tmp_path / "maps.h5", named("cat", "dog"), resume=True)
    with MapsFile(tmp_path / "maps.h5") as maps:
        assert (len(maps), maps.info.classes) == (4, ())


def test_names_from_strangers_are_checked(tmp_path: Path) -> None:
    for k, (content, why) in enumerate(
        [
            (np.arange(3), "classes is not text"),
            (np.array([["a", "b"]], "S1"), "classes does not have 1 dimensions"),
            (h5py.SoftLink("/path"), "classes is a link"),
            (h5py.ExternalLink("other.h5", "/path"), "classes is a link"),
        ]
    ):
        path = tmp_path / f"{k}.h5"
        write(path, named())
        with h5py.File(path, "r+") as file:
            file["classes"] = content
        with pytest.raises(LcamError, match=why):
            MapsFile(path)


def test_a_claim_of_endless_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "maps.h5", named())
    with h5py.File(tmp_path / "maps.h5", "r+") as file:
        file.create_dataset("classes", (1 << 40,), "S8", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(LcamError, match="classes"):
        MapsFile(tmp_path / "maps.h5")


def test_png_folders_have_them_too(tmp_path: Path) -> None:
    with PngWriter(tmp_path / "maps", named("cat", "dog")) as out:
        out.append(make_batch(0, 1))
    info = tmp_path / "maps" / "info.json"
    assert json.loads(info.read_text())["classes"] == ["cat", "dog"]
    with pytest.raises(LcamError, match="the classes have other names"):
        PngWriter(tmp_path / "maps", named("dog", "cat"), resume=True)
    with PngWriter(tmp_path / "maps", named("cat", "dog"), resume=True) as out:
        out.finish()
    info.write_text(json.dumps(json.loads(info.read_text()) | {"classes": 7}) + "\n")
    with pytest.raises(LcamError, match="was not written by lcam"):
        PngWriter(tmp_path / "maps", named("cat", "dog"), resume=True)
