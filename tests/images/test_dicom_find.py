"""DICOM in folders: with and without an extension, several frames, and without the extra."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lcam_cli.errors import BadImageError
from lcam_cli.images import find, folder, formats
from lcam_cli.images.find import find_images
from lcam_cli.images.read import read_picture
from tests.images.dicom_files import dataset, dicom, written

ONE = dicom(np.arange(64, dtype=np.uint8).reshape(8, 8))
FILM = dicom(np.zeros((3, 8, 8), np.uint8), NumberOfFrames=3)
DIRECTORY = written(dataset(SOPClassUID="1.2.840.10008.1.3.10"))


def names(found: find.Found, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in found.paths]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder as a disc from a hospital: no extensions, a DICOMDIR, a viewer, a film."""
    files = {"DICOMDIR": DIRECTORY, "IM/00001": ONE, "IM/1.2.840.113619.2.55": ONE,
             "IM/film": FILM, "IM/named.dcm": FILM, "IM/notes": b"words", "VIEWER.EXE": b"MZ",
             "README.TXT": b"words", "a.jpg.5": b"\xff\xd8\xff"}  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_files_are_found_by_their_beginning(archive: Path) -> None:
    found = find_images([str(archive)])
    assert names(found, archive) == [
        "IM/00001", "IM/1.2.840.113619.2.55", "IM/film#0000", "IM/film#0001", "IM/film#0002",
        "IM/named.dcm#0000", "IM/named.dcm#0001", "IM/named.dcm#0002",
    ]  # fmt: skip
    assert found.passed_over.unread.extensions == {".5": 1}, "that is a JPEG"
    assert found.skipped == []
    assert read_picture(f"{archive}/IM/00001").size == (8, 8)
    one = find_images([f"{archive}/IM/film#0001"])
    assert names(one, archive) == ["IM/film#0001"]


def test_a_directory_named_itself_says_what_it_is(archive: Path) -> None:
    with pytest.raises(BadImageError, match="no pixels: a DICOMDIR, which lists other files"):
        read_picture(str(archive / "DICOMDIR"))


def test_links_are_followed(archive: Path) -> None:
    (archive / "linked").mkdir()
    (archive / "linked" / "scan").symlink_to(archive / "IM" / "00001")
    assert names(find_images([str(archive / "linked")]), archive) == ["linked/scan"]


def test_pictures_do_not_use_up_the_files_that_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_OPENED", 2)
    for number in range(9):
        (tmp_path / f"{number:04}").write_bytes(ONE)
    (tmp_path / "other").write_bytes(b"words")
    assert len(find_images([str(tmp_path)]).paths) == 9


def test_names_may_lie(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(ONE)
    assert read_picture(str(tmp_path / "a.jpg")).size == (8, 8)
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    with pytest.raises(BadImageError, match="not an image, or damaged at its start"):
        read_picture(str(tmp_path / "b.dcm"))


def test_without_the_extra_they_are_there_and_not_read(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [one for one in formats.FORMATS if one.name != "the DICOM decoder"]
    monkeypatch.setattr(formats, "FORMATS", kept)
    caches = (formats.picture_extensions, formats._several)
    for cache in caches:
        cache.cache_clear()
    try:
        (archive / "x.png").write_bytes(b"\x89PNG")
        unread = find_images([str(archive)]).passed_over.unread
        assert unread.extensions == {".dcm": 4, ".5": 1}
        assert "DICOM needs pip install 'lcam-cli[medical]'" in unread.line()
        with pytest.raises(BadImageError, match="pip install 'lcam-cli\\[medical\\]'"):
            read_picture(str(archive / "IM" / "film"))
    finally:
        for cache in caches:
            cache.cache_clear()
