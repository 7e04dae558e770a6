"""Files that hold several images: their names, and what they mean everywhere."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import pytest

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images import decoder
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.find import find_images
from lcam_cli.images.formats import GROUP, picture_extensions, plugin_formats
from lcam_cli.images.inputs import pictures_of
from lcam_cli.images.numbered import file_and_number, file_of, numbered, split_number
from tests.packages import write_package
from tests.tiny import write_pictures

MANY = 10**8

# A strip is "strip", and a byte for each of its images, which are of that grey.
_STRIPS = """
import io
import os
from PIL import Image
from lcam_cli.errors import BadImageError
from lcam_cli.images.picture import Picture, PictureFormat


class Strips(PictureFormat):
    extensions = (".strip",)
    holds_several = True
    digits = 4

    def recognises(self, head):
        return head.startswith(b"strip")

    def count(self, file):
        greys = file.read()[5:]
        if greys == b"crash":
            os.abort()
        if greys.startswith(b"claims "):
            return int(greys[7:])
        return len(greys)

    def read(self, file, options):
        greys = file.read()[5:]
        if options.entry >= len(greys):
            raise BadImageError(f"no image {options.entry} in it: it holds {len(greys)}")
        return Picture(Image.new("L", (40, 40), greys[options.entry]))


class Tables(Strips):
    extensions = (".table",)
    digits = 1
    is_table = True

    def note(self, file):
        return "many" if len(file.read()) > 8 else ""

    def extract(self, file, number):
        image = io.BytesIO()
        Image.new("L", (40, 40), file.read()[5 + number]).save(image, "PNG")
        return image.getvalue()
"""


@pytest.fixture
def strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where a package is installed that reads strips and tables of them."""
    site = tmp_path / "site"
    write_package(site, "strips", _STRIPS, GROUP, {"a": "strips:Strips", "b": "strips:Tables"})
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    _forget()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield work
    _forget()
    sys.modules.pop("strips", None)


def _forget() -> None:
    """Have this process look for packages again, and those that read for it."""
    plugin_formats.cache_clear()
    picture_extensions.cache_clear()
    while decoder._idle:
        decoder._idle.pop().close()


def strip(path: str, *greys: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(b"strip" + bytes(greys))


def test_names() -> None:
    assert numbered("a/x.dcm", 3, 4) == "a/x.dcm#0003"
    assert split_number("a/x.dcm#0003") == ("a/x.dcm", 3)
    assert split_number("a#1/x#2#3") == ("a#1/x#2", 3)
    for path in ("a#1/x.dcm", "#3", "a/#3", "x#", "x#-1", "x#1 ", "x#٣", "x#9999999999", ""):
        assert split_number(path) is None
        assert file_of(path) == path
    assert file_of("x.dcm#12345") == "x.dcm"


def test_a_file_of_that_very_name_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "x.strip"
    file.touch()
    assert file_and_number(f"{file}#1") == (str(file), 1)
    Path(f"{file}#1").touch()
    assert file_and_number(f"{file}#1") == (f"{file}#1", None)
    assert file_and_number(f"{tmp_path}#1") == (f"{tmp_path}#1", None)  # a folder holds no images
    assert file_and_number(f"{tmp_path}/gone#1") == (f"{tmp_path}/gone#1", None)


def test_files_are_expanded_in_their_place(strips: Path) -> None:
    write_pictures(strips / "set", 2)
    strip("set/000.strip", 10, 20)
    strip("set/one.strip", 30)
    strip("set/x.table", 50)
    strip("nameless", 60, 70)
    found = find_images(["set", "nameless"])
    assert found.paths == [
        *("set/000.jpg", "set/000.strip#0000", "set/000.strip#0001", "set/001.jpg"),
        *("set/one.strip", "set/x.table#0", "nameless#0000", "nameless#0001"),
    ]
    assert found.skipped == []
    assert found.root == str(strips)
    greys = [read_whole(path, MANY).getpixel((0, 0)) for path in found.paths[4:]]
    assert greys == [(grey,) * 3 for grey in (30, 50, 60, 70)]
    assert pictures_of(["set/000.strip", "set/one.strip"]) == [*found.paths[1:3], "set/one.strip"]


def test_one_of_them_may_be_named(strips: Path) -> None:
    strip("x.strip", 10, 20, 30)
    assert find_images(["x.strip#2"]).paths == ["x.strip#0002"]
    assert find_images(["-"], ["x.strip#2", "x.strip#1"]).paths == ["x.strip#0002", "x.strip#0001"]
    both = find_images(["x.strip#2", "x.strip", "./x.strip#00001"])
    assert both.paths == ["x.strip#0002", "x.strip#0000", "x.strip#0001"]
    assert both.passed_over.twice == 2
    assert read_whole("x.strip#2", MANY).getpixel((0, 0)) == (30, 30, 30)
    with pytest.raises(BadImageError, match="no image 3 in it: it holds 3"):
        read_whole("x.strip#3", MANY)


def test_what_holds_one_picture_has_no_numbers(strips: Path) -> None:
    (path,) = write_pictures(strips, 1)
    with pytest.raises(LcamError, match="cannot open"):
        find_images([f"{path}#0"])
    with pytest.raises(BadImageError, match="does not hold several"):
        read_whole(f"{path}#0", MANY)
    strip("x.table", 1)
    with pytest.raises(BadImageError, match="with no image named"):
        read_whole("x.table", MANY)


def test_links_count_by_each_of_their_names(strips: Path) -> None:
    strip("a/x.strip", 10, 20)
    Path("b").mkdir()
    Path("b/y.strip").symlink_to("../a/x.strip")
    found = find_images(["."])
    assert found.paths == [f"./{n}.strip#{k:04}" for n in ("a/x", "b/y") for k in (0, 1)]


def test_what_cannot_be_counted(strips: Path) -> None:
    """A file stays one image, whose reading says why; a table, or a liar, is left out."""
    content = {
        "crash": b"stripcrash",
        "empty": b"",
        "none": b"strip",
        "text": b"no strip",
        "claims": b"stripclaims 10001",
    }
    for name, data in content.items():
        Path(f"{name}.strip").write_bytes(data)
        Path(f"{name}.table").write_bytes(data)
    strip("good.strip", 1)
    found = find_images(["."])
    assert found.passed_over.lines() == ["skipped 1 table without images: ./none.table"]
    (named,) = find_images(["good.strip", "none.table"]).skipped
    assert named.reason == "a table without images"
    reasons = {Path(one.path).name: one.reason for one in found.skipped}
    assert found.paths == [f"./{name}.strip" for name in ("crash", "empty", "good", "none", "text")]
    assert reasons == {
        "claims.strip": "it claims to hold 10,001 images, in 17 bytes",
        "claims.table": "it claims to hold 10,001 images, in 17 bytes",
        "crash.table": "the plug-in image format 'b' crashed (SIGABRT)",
        "empty.table": "empty file",
        "text.table": "not a table of images, or damaged at its start",
    }


def test_in_tars(strips: Path) -> None:
    strip("in.strip", 10, 20)
    strip("one.strip", 30)
    strip("t.table", 40)
    with tarfile.open("a.tar", "w") as tar:
        for name in ("in.strip", "one.strip", "t.table"):
            tar.add(name)
    found = find_images(["a.tar"])
    assert found.paths == ["a.tar/in.strip#0000", "a.tar/in.strip#0001", "a.tar/one.strip"]
    assert [one.reason for one in found.skipped] == [
        "a table in a tar: extract it and pass it directly"
    ]
    greys = [read_whole(path, MANY).getpixel((0, 0))[0] for path in found.paths]
    assert greys == [10, 20, 30]
    with pytest.raises(BadImageError, match="no image 2 in it"):
        read_whole("a.tar/in.strip#2", MANY)
