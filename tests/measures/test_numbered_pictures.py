"""Labels, boxes and masks of images that are one of several in their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcam_cli.measures.label_file import read_label_file
from lcam_cli.measures.label_match import match_lines
from lcam_cli.measures.object_files.matching import match_pictures

ROWS = ["a/heart.dcm#0000", "a/heart.dcm#0001", "b/heart.dcm#0001", "c/x.dcm", "train.parquet#7"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("heart.dcm#0000", 0),
        ("heart#0000", 0),
        ("a/heart#0001", 1),
        ("/data/b/heart.dcm#0001", 2),
        ("x", 3),
        ("train.parquet#7", 4),
        ("train#7", 4),
        ("train.parquet#8", None),
        ("train.parquet", None),
        ("7", None),
    ],
)
def test_a_mask_s_name_and_a_box_s(name: str, row: int | None) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pydicom")
    found = match_pictures([name], ROWS, "/data", "masks")
    assert found.row_of == ({} if row is None else {name: row})


def test_a_line_of_labels(tmp_path: Path) -> None:
    """Blanks in names, too: they end with their extension and their number."""
    file = tmp_path / "labels.txt"
    file.write_text("a/heart.dcm#0000 tabby\nmy scan.dcm#0003 big cat\ntrain.parquet#7,dog\n")
    lines = read_label_file(file, lambda text: False)
    assert [(line.name, line.label) for line in lines] == [
        ("a/heart.dcm#0000", "tabby"),
        ("my scan.dcm#0003", "big cat"),
        ("train.parquet#7", "dog"),
    ]
    assert set(match_lines(lines, [*ROWS, "my scan.dcm#0003"], "").lines) == {0, 4, 5}
