"""Folders of pages: nothing lost, nothing written elsewhere, nothing run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_folder
from lcam_cli.reports.page import FILES, PageFolder, check_page_folder, script_json


def test_a_folder_with_something_in_it_is_refused_unless_asked(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    check_page_folder(folder, "--report", overwrite=False)
    folder.mkdir()
    check_page_folder(folder, "--report", overwrite=False)
    with lock_folder(folder):
        check_page_folder(folder, "--report", overwrite=False)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(LcamError, match="is not empty"):
        check_page_folder(folder, "--report", overwrite=False)
    check_page_folder(folder, "--report", overwrite=True)
    with pytest.raises(LcamError, match="not a folder"):
        check_page_folder(folder / "notes.txt", "--report", overwrite=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LcamError, match="not a folder"):
        check_page_folder(tmp_path / "dangling", "--report", overwrite=True)


def test_an_earlier_page_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    first = PageFolder(tmp_path, parts=("maps",))
    first.write("maps/000000.js", b"old")
    (tmp_path / "index.html").write_text("old")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "mine.jpg").write_text("mine")
    PageFolder(tmp_path, parts=("maps",))
    assert not (tmp_path / FILES / "maps" / "000000.js").exists()
    assert not (tmp_path / "index.html").exists(), "half a report must not look like one"
    assert (tmp_path / "maps" / "mine.jpg").read_text() == "mine"


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "page.css").write_text("theirs")
    for place in ("files", "part", "index"):
        folder = tmp_path / place
        folder.mkdir()
        if place == "files":
            (folder / FILES).symlink_to(outside)
        elif place == "part":
            (folder / FILES).mkdir()
            (folder / FILES / "maps").symlink_to(outside)
        else:
            (folder / "index.html").symlink_to(outside / "page.css")
        page = PageFolder(folder, parts=("maps",))
        page.write("maps/000000.js", b"")
        page.finish("base.html.j2")
    assert [entry.name for entry in outside.iterdir()] == ["page.css"]
    assert (outside / "page.css").read_text() == "theirs"


def test_a_link_made_meanwhile_is_not_written_through(tmp_path: Path) -> None:
    page = PageFolder(tmp_path / "report", parts=("maps",))
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "report" / FILES / "maps" / "000000.js").symlink_to(tmp_path / "theirs")
    with pytest.raises(LcamError, match="cannot write"):
        page.write("maps/000000.js", b"ours")
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PageFolder(tmp_path / "report")
    monkeypatch.setattr(PageFolder, "open", lambda *_: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(LcamError, match="No space left"):
        page.write("data.js", b"x" * 100_000)


@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_script_json_is_the_same_value_in_harmless_letters(value: object) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set("<>&\n\r") & set(text)


def test_files_need_no_network() -> None:
    html = Path(os.path.abspath(__file__)).parents[2] / "lcam_cli" / "reports" / "html"  # noqa: PTH100
    files = list(html.iterdir())
    assert {"base.html.j2", "page.css", "page.js"} <= {file.name for file in files}
    for file in files:
        text = file.read_text("utf-8")
        for sign in (
            "http:",
            "https:",
            "//cdn",
            "fetch(",
            "XMLHttpRequest",
            "innerHTML",
            "@import",
        ):
            assert sign not in text, f"{sign} in {file.name}"
        assert "|safe" not in text.replace(" ", "")
