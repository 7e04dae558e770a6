"""Whatever is written before and after a #, a name means one image, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.find import find_images
from lcam_cli.images.numbered import file_of, numbered, split_number
from lcam_cli.maps.names import output_name
from tests.faults.counts import count

MANY = 10**6
PIECES = st.one_of(
    st.sampled_from(["x.parquet", "a.png", "#", "#0", "#1", "#2", "#17", "#-1", "/", "%23"]),
    st.text(max_size=6),
    st.integers(-5, 10**12).map(str),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, a table of three, and a file that is called as one of its rows."""
    folder = tmp_path_factory.mktemp("names")
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    row = {"bytes": (folder / "a.png").read_bytes(), "path": "a.png"}
    pq.write_table(pa.table({"image": [row] * 3}), folder / "x.parquet")
    Image.new("RGB", (5, 5), "blue").save(folder / "x.parquet#1", "PNG")
    return folder


def found_in(path: str) -> tuple[list[str], str]:
    """The images that a path names, or why it names none."""
    try:
        return find_images([path]).paths, ""
    except LcamError as error:
        return [], error.what


def read(path: str) -> tuple[tuple[int, int] | None, str]:
    """The size of an image, or why it cannot be read."""
    try:
        return read_whole(path, MANY).size, ""
    except BadImageError as error:
        return None, error.reason


@given(st.lists(PIECES, max_size=6).map("".join))
@settings(max_examples=count(300, 5000), deadline=None)
@example("x.parquet#0")
@example("x.parquet#1")
@example("x.parquet#3")
@example("x.parquet#00000000001")
@example("x.parquet#0#0")
@example("a.png#0")
@example("x.parquet#\N{ARABIC-INDIC DIGIT ONE}")
@example("\0#1")
def test_any_name(folder: Path, name: str) -> None:
    assume(".." not in name)  # where a test does not go
    path = f"{folder}/{name}"
    paths, why_none = found_in(path)
    assert bool(paths) != bool(why_none)
    assert "\n" not in why_none.replace(name, "")
    for one in paths:
        assert Path(one).is_file() or Path(file_of(one)).is_file()
        target = output_name(one, 1, "png")
        assert ".." not in target.parts
    size, why_not = read(path)
    assert (size is None) == bool(why_not)
    assert "\n" not in why_not
    split = split_number(path)
    if split is not None:
        assert split_number(numbered(*split, 1)) == split
        is_row = split[0].endswith("/x.parquet") and split[1] < 3 and not Path(path).is_file()
        assert (size == (8, 8)) == is_row


def test_a_row_and_a_file_of_its_name(folder: Path) -> None:
    found = find_images([str(folder / "x.parquet")])
    assert [read(path)[0] for path in found.paths] == [(8, 8), (5, 5), (8, 8)]
