from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.errors import LcamError
from lcam_cli.maps.names import claim_folder, output_name

parts = st.one_of(
    st.sampled_from(
        [
            "..",
            "a",
            "%",
            "%2E%2E",
            "%2F",
            "a.1.png",
            "a%2E1.png",
            "a.1%2Epng",
            "info.json",
            "x" * 300,
        ]
    ),
    st.text(min_size=1, max_size=8),
)
row_paths = st.builds(
    lambda root, names: root + "/".join(names),
    st.sampled_from(["", "/"]),
    st.lists(parts, min_size=1),
).filter(lambda path: PurePosixPath(path).parts != ())
rows = st.tuples(row_paths, st.integers(0, 2))


@given(rows)
def test_names_never_leave_the_folder(row: tuple[str, int]) -> None:
    name = output_name(*row, "png")
    assert not name.is_absolute()
    assert ".." not in name.parts
    assert all(len(part.encode("utf-8", "surrogatepass")) <= 255 for part in name.parts)
    assert "\0" not in str(name)
    assert str(name).endswith(f".{row[1]}.png")


@given(rows, rows)
def test_two_rows_never_meet(one: tuple[str, int], other: tuple[str, int]) -> None:
    first, second = output_name(*one, "png"), output_name(*other, "png")
    same_row = PurePosixPath(one[0]) == PurePosixPath(other[0]) and one[1] == other[1]
    assert (first == second) == same_row
    # Nor does one stand as a file where the other needs a folder.
    assert first not in second.parents


def test_names_people_meet() -> None:
    assert str(output_name("sub/cat.jpg", 281, "png")) == "sub/cat.jpg.281.png"
    assert str(output_name("sub/cat.png", 281, "png")) == "sub/cat.png.281.png"
    assert str(output_name("../cat.jpg", 3, "jpg")) == "%2E%2E/cat.jpg.3.jpg"
    assert str(output_name("/tmp/cat.jpg", 3, "webp")) == "%2F/tmp/cat.jpg.3.webp"


def test_folders_with_something_in_them_are_refused(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a" / "b", may_exist=False)
    claim_folder(tmp_path / "a" / "b", may_exist=False)
    with pytest.raises(LcamError, match="not empty"):
        claim_folder(tmp_path / "a", may_exist=False)
    claim_folder(tmp_path / "a", may_exist=True)
    (tmp_path / "file").touch()
    with pytest.raises(LcamError, match="cannot write"):
        claim_folder(tmp_path / "file", may_exist=True)
