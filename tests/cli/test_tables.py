"""Pictures in a table: the same as in a folder, through every command, and named by their rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli import job
from tests.cli.job import Lcam

OWN = "from tests.tiny import tiny_network as net\n"
SMALL = ("--backbone", "own.py:net", "--image-size", "32", "--batch-size", "4", "--workers", "2")
GRADCAM = (*SMALL, "--method", "gradcam")

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images in a folder, of which 003.jpg cannot be read, and the same in a table."""
    job.begin(tmp_path, monkeypatch, OWN, 10)
    Path("photos/003.jpg").write_text("no picture")
    Path("tables/cats").mkdir(parents=True)
    files = [{"bytes": Path(f"photos/{k:03}.jpg").read_bytes(), "path": None} for k in range(10)]
    table = pa.table({"label": list(range(10)), "image": files})
    pq.write_table(table, "tables/cats/x.parquet", row_group_size=3)
    return tmp_path


def names(maps: str) -> list[str]:
    with h5py.File(maps) as file:
        return list(file["path"].asstr()[:])


def test_maps_are_those_of_the_files(folder: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos", *GRADCAM, "--out", "files.h5").code == 3
    done = lcam("explain", "tables", *GRADCAM, "--out", "rows.h5", "--overlays", "tables/shown")
    assert done.code == 3, done.err
    rows = [k for k in range(10) if k != 3]
    assert names("rows.h5") == [f"cats/x.parquet#{k}" for k in rows]
    with h5py.File("rows.h5") as of_rows, h5py.File("files.h5") as of_files:
        np.testing.assert_array_equal(of_rows["saliency"], of_files["saliency"])
        assert list(of_rows["skipped/path"].asstr()) == ["cats/x.parquet#3"]
    overlays = sorted(path.name for path in Path("tables/shown/cats").iterdir())
    assert [name.split(".png")[0].rpartition(".")[0] for name in overlays] == [
        f"x.parquet#{k}" for k in rows
    ]
    # The overlays are not taken for images, and an image of the table may be drawn anew.
    again = lcam("explain", "tables", *GRADCAM, "--out", "again.h5")
    assert "9 overlays in tables/shown" in again.err
    assert names("again.h5") == names("rows.h5")


def test_rows_by_themselves_and_as_a_sample(folder: Path, lcam: Lcam) -> None:
    table = "tables/cats/x.parquet"
    some = lcam("explain", f"{table}#7", f"{table}#2", f"{table}#99", *GRADCAM)
    assert some.code == 3
    assert names("maps.h5") == ["x.parquet#7", "x.parquet#2"]
    assert f"{table}#99: there is no image 99 in it: it holds 10" in some.err
    few = lcam("explain", table, *GRADCAM, "--max-images", "3", "--overwrite", "--seed", "1")
    assert few.code in (0, 3)
    assert len(names("maps.h5")) == 3 - (few.code == 3)


def test_a_run_goes_on_where_it_stopped(folder: Path, lcam: Lcam) -> None:
    whole = lcam("explain", "tables", *GRADCAM, "--out", "whole.h5")
    parts = [
        lcam("explain", "tables", *GRADCAM, "--out", "part.h5", "--shard", f"{k}/2") for k in (0, 1)
    ]
    assert whole.code == 3
    assert sorted(part.code for part in parts) == [0, 3]
    merged = lcam("merge", "all.h5", *sorted(Path().glob("part.*.h5")))
    assert merged.code == 0, merged.err
    assert names("all.h5") == names("whole.h5")
    resumed = lcam("explain", "tables", *GRADCAM, "--out", "whole.h5", "--resume")
    assert resumed.code == 3
    assert names("whole.h5") == names("all.h5")


def test_labels_by_name_and_by_folder(folder: Path, lcam: Lcam) -> None:
    lines = [f"x.parquet#{k} {k % 4}" for k in range(10)]
    Path("labels.txt").write_text("\n".join(lines))
    words = ("compare", "tables", *SMALL, "--methods", "gradcam")
    by_name = lcam(*words, "--labels", "labels.txt", "--report", "page")
    assert by_name.code == 3, by_name.err
    assert "label" not in by_name.err.replace("--labels", "").replace("labels.txt", "")
    Path("tables/cats").rename("tables/2")
    assert lcam("explain", "tables", *GRADCAM, "--out", "maps.h5").code == 3
    by_folder = lcam("diagnose", "tables", *GRADCAM, "--labels", "folders")
    assert by_folder.code == 3, by_folder.err
    evaluated = lcam("evaluate", "maps.h5", "--images", "tables", "--backbone", "own.py:net")
    assert evaluated.code in (0, 3), evaluated.err


def test_a_table_is_read_where_it_is(folder: Path, lcam: Lcam) -> None:
    """By a link as well; and tables of other things are passed over, which is said."""
    Path("tables/link.parquet").symlink_to("cats/x.parquet")
    pq.write_table(pa.table({"name": ["a"], "class": [1]}), "tables/labels.parquet")
    done = lcam("explain", "tables", *GRADCAM)
    assert "warning: skipped 1 table without images: tables/labels.parquet" in done.err
    assert names("maps.h5")[9:] == [f"link.parquet#{k}" for k in range(10) if k != 3]
    shutil.copy("tables/labels.parquet", "other.parquet")
    alone = lcam("explain", "other.parquet", *GRADCAM, "--overwrite")
    assert alone.code == 2
    assert "no images to work on: other.parquet: a table without images" in alone.err
