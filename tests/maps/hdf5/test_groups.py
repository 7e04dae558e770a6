"""One file, a group a method."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.groups import group_name, join_methods
from lcam_cli.maps.hdf5.reader import MapsFile
from tests.maps.making import make_batch, writer


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    for name, first, cam in (("one", 0, True), ("two", 10, False)):
        with writer(tmp_path / f"{name}.h5") as out:
            out.append(make_batch(first, 3, cam=cam, skipped=1))
            out.finish()
    join_methods(tmp_path / "all.h5", {n: tmp_path / f"{n}.h5" for n in ("one", "two")})
    return tmp_path / "all.h5"


@pytest.mark.parametrize(("name", "first", "cam"), [("one", 0, True), ("two", 10, False)])
def test_each_group_reads_like_its_file(joined: Path, name: str, first: int, cam: bool) -> None:
    with MapsFile(joined, name) as maps:
        got, want = maps.rows(0, 3), make_batch(first, 3, cam=cam, skipped=1)
        assert (len(maps), maps.complete, maps.info.method) == (3, True, name)
        assert maps.skipped == want.skipped
        np.testing.assert_array_equal(got.saliency, want.saliency)
        assert (got.cam is not None) == cam
        assert got.paths == want.paths


def test_a_method_must_be_named_where_there_are_several(joined: Path) -> None:
    for method in (None, "three"):
        with pytest.raises(LcamError, match=r"several methods") as told:
            MapsFile(joined, method)
        assert "one, two" in told.value.hint
    with pytest.raises(LcamError, match="the maps of only one method"):
        MapsFile(joined.with_name("one.h5"), "one")


def test_a_group_of_another_file_is_not_followed(joined: Path) -> None:
    with h5py.File(joined, "a") as file:
        file["away"] = h5py.ExternalLink(str(joined.with_name("one.h5")), "/")
        file["soft"] = h5py.SoftLink("/one")
        file["number"] = 1
    for method in ("away", "soft", "number"):
        with pytest.raises(LcamError):
            MapsFile(joined, method)


def test_a_damaged_source_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "bad.h5").write_bytes(b"no HDF5")
    with pytest.raises(LcamError, match=r"bad\.h5"):
        join_methods(tmp_path / "all.h5", {"bad": tmp_path / "bad.h5"})
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]


@pytest.mark.parametrize("name", ["gradcam++", "lcam-img (run/a)", ".", "..", "a b"])
def test_group_names_are_one_step(name: str) -> None:
    assert "/" not in group_name(name)
    assert group_name(name).strip(".")
