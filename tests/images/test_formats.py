"""Picture formats of other packages: what can be wrong with them, and what stays ours."""

from __future__ import annotations

import io
import logging
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images import formats
from lcam_cli.images.find import find_images
from lcam_cli.images.formats import GROUP, picture_extensions, plugin_formats
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.read import MAX_PIXELS, read_picture, read_pixels
from lcam_cli.images.rgb import Levels
from lcam_cli.images.tars import locate
from tests.conftest import ROOT

Install = Callable[..., None]


class Dots(PictureFormat):
    """A byte a pixel, in one row, behind the word ``dots``."""

    extensions = (".dots", ".nii.gz")

    def recognises(self, head: bytes) -> bool:
        return head.startswith(b"dots")

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        row = file.read()[4:]
        return Picture(Image.frombytes("L", (len(row), 1), row))


class Failing(PictureFormat):
    extensions = (".fails",)

    def recognises(self, head: bytes) -> bool:
        raise KeyError("head")

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        return {}[file.read(2)]


class Greedy(PictureFormat):
    extensions = (".PNG", ".dots", ".own")

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        return Image.new("L", (1, 1))  # type: ignore[return-value]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Have entry points lead to objects of ours, as if packages brought them."""
    monkeypatch.setattr(logging.getLogger("lcam"), "propagate", True)  # a command may end that

    def put(**brought: object) -> None:
        module = ModuleType("brought")
        vars(module).update(brought)
        monkeypatch.setitem(sys.modules, "brought", module)
        points = {name: EntryPoint(name, f"brought:{name}", GROUP) for name in brought}
        monkeypatch.setattr("lcam_cli.plugins.entry_points_of", lambda group: points)
        forget()

    def forget() -> None:
        plugin_formats.cache_clear()
        picture_extensions.cache_clear()

    yield put
    monkeypatch.undo()
    forget()


def reason(path: Path) -> str:
    with pytest.raises(BadImageError) as error:
        read_picture(str(path))
    return error.value.reason


def test_extension_then_pillow_then_first_bytes(install: Install, tmp_path: Path) -> None:
    install(dots=Dots)
    png = io.BytesIO()
    Image.new("RGB", (2, 2)).save(png, "PNG")
    for name in ("a.dots", "b.jpg", "c", "d.NII.gz", "d.gz"):
        (tmp_path / name).write_bytes(b"dots\x01\x02\x03")
        assert read_picture(str(tmp_path / name)).size == (3, 1)
    (tmp_path / "e.dots").write_bytes(png.getvalue())
    assert read_picture(str(tmp_path / "e.dots")).size == (2, 2)
    found = find_images([str(tmp_path)])
    assert [Path(path).name for path in found.paths] == ["a.dots", "b.jpg", "d.NII.gz", "e.dots"]
    assert found.passed_over.unread.extensions == {"": 1}  # it is recognised, and has no name
    (tmp_path / "f.dots").write_bytes(b"dots" + bytes(40))
    with pytest.raises(BadImageError, match="too many pixels: 40 × 1, over --max-pixels 39"):
        read_picture(str(tmp_path / "f.dots"), max_pixels=39)
    (tmp_path / "g.dots").write_bytes(b"nothing")
    assert reason(tmp_path / "g.dots") == "not an image, or damaged at its start"


def test_in_a_tar_the_name_is_that_of_the_member(install: Install, tmp_path: Path) -> None:
    class Nameless(Dots):
        def recognises(self, head: bytes) -> None:
            return None

    install(dots=Nameless)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("one.dots")
        member.size = 6
        tar.addfile(member, io.BytesIO(b"dots\x01\x02"))
    (path,) = find_images([str(tmp_path / "a.tar")]).paths
    file, place, *_ = locate(path)
    options = ReadOptions(MAX_PIXELS)
    assert read_pixels(file, options, place=place, name=path)[0].size == (2, 1)
    with pytest.raises(BadImageError, match="not an image"):
        read_pixels(file, options, place=place)


def test_one_that_fails_is_named_and_leaves_the_others_alone(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        """No class of ours."""

    class Wordy(Dots):
        extensions = ".dots"

    install(broken=broken, dots=Dots, fails=Failing, wordy=Wordy)
    (tmp_path / "a.fails").write_bytes(b"any")
    (tmp_path / "b.dots").write_bytes(b"dots\x01")
    assert reason(tmp_path / "a.fails") == (
        "the plug-in image format 'fails' failed: KeyError: b'an'"
    )
    assert read_picture(str(tmp_path / "b.dots")).size == (1, 1)
    begin = "the plug-in image format '{0}' (brought:{0}) does not load: "
    for _ in range(2):  # every run
        caplog.clear()
        find_images([str(tmp_path)])
    assert [record.getMessage() for record in caplog.records] == [
        begin.format("broken") + "brought:broken is not a subclass of PictureFormat",
        begin.format("wordy") + "its extensions are not like ('.fits',)",
    ]


def test_extensions_stay_with_whoever_has_them(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(dots=Dots, greedy=Greedy)
    own = {extension for one in formats.FORMATS for extension in one.extensions}
    assert picture_extensions() == {*own, ".dots", ".nii.gz", ".own"}
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    find_images([str(tmp_path)])
    assert [record.getMessage() for record in caplog.records] == [
        "the plug-in image format 'greedy' (brought:greedy) is ignored for extensions that "
        "other formats read: .png"
    ], "of the files there are"
    (tmp_path / "a.dots").write_bytes(b"dots\x01\x02")
    (tmp_path / "a.own").write_bytes(b"any")
    assert read_picture(str(tmp_path / "a.png")).size == (5, 4)
    assert read_picture(str(tmp_path / "a.dots")).size == (2, 1)
    assert reason(tmp_path / "a.own") == (
        "the plug-in image format 'greedy' failed: it did not return a Picture"
    )


def test_pictures_of_our_own_formats_look_for_no_plug_ins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formats, "plugin_formats", None)
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "b.jpg")
    assert read_picture(str(tmp_path / "b.jpg")).size == (5, 4)


class Odd(PictureFormat):
    """Does with each file what its first byte says."""

    extensions = (".odd",)

    def recognises(self, head: bytes) -> bool:
        sys.exit(7)

    def read(self, file: BinaryIO, options: ReadOptions) -> Picture:
        match first := file.read(1):
            case b"x":
                sys.exit(3)
            case b"k":
                raise KeyboardInterrupt
            case b"r":
                raise BadImageError("two\nlines")
        black = Image.new("RGB", (4, 4))
        return {
            b"p": Picture({}),  # type: ignore[arg-type]
            b"a": Picture(np.zeros((4, 4, 4, 4))),
            b"c": Picture(np.zeros((4, 4), np.complex64)),
            b"i": Picture(black, inverted=1),  # type: ignore[arg-type]
            b"l": Picture(black, levels=3),  # type: ignore[arg-type]
            b"o": Picture(black, levels=Levels(0, 4095, 255, 0)),
            b"n": Picture(black, levels=Levels(0, float("nan"), 0, 1)),
        }.get(first, Picture(black))


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("x", "the plug-in image format 'odd' failed: it called sys.exit(3)"),
        ("k", "the plug-in image format 'odd' failed: KeyboardInterrupt"),
        ("r", "two lines"),
        ("p", "the plug-in image format 'odd' failed: its pixels are a dict, not a Pillow "),
        ("a", "the plug-in image format 'odd' failed: an array (4, 4, 4, 4) of float64 is not an "),
        ("c", "the plug-in image format 'odd' failed: an array (4, 4) of complex64 is not an im"),
        ("i", "the plug-in image format 'odd' failed: inverted is 1, not a bool"),
        ("l", "the plug-in image format 'odd' failed: its levels are 3, not Levels with"),
        ("o", "the plug-in image format 'odd' failed: its levels are Levels(low=0, high=4095"),
        ("n", "the plug-in image format 'odd' failed: its levels are Levels(low=0, high=nan"),
    ],
)
def test_what_it_does_with_a_file_is_that_files_reason(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, why: str
) -> None:
    monkeypatch.setattr(Odd, "__module__", "brought")
    monkeypatch.setitem(globals(), "__name__", "brought")  # as if this module were the package's
    install(odd=Odd)
    (tmp_path / "a.odd").write_bytes(first.encode() * 9)
    (tmp_path / "b.odd").write_bytes(b"fine")
    assert reason(tmp_path / "a.odd").startswith(why)
    assert "\n" not in reason(tmp_path / "a.odd")
    assert read_picture(str(tmp_path / "b.odd")).size == (4, 4)


def test_one_that_does_not_load_here_is_named_where_nothing_reads_a_file(
    install: Install, tmp_path: Path
) -> None:
    install(broken=7)
    for name in ("a.odd", "a.png"):
        (tmp_path / name).write_bytes(b"any")
    assert reason(tmp_path / "a.odd") == (
        "not an image, or damaged at its start; the plug-in image format 'broken' "
        "(brought:broken) does not load: brought:broken is not a subclass of PictureFormat"
    )
    assert reason(tmp_path / "a.png") == "not an image, or damaged at its start"


def test_one_that_does_not_load_is_named_where_there_are_no_pictures(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(broken=7)
    (tmp_path / "a.odd").write_bytes(b"any")
    with pytest.raises(LcamError, match="no images"):
        find_images([str(tmp_path)])
    assert "'broken' (brought:broken) does not load" in caplog.text


def test_the_page_lists_what_is_taken() -> None:
    page = (ROOT / "docs" / "add-a-picture-format.md").read_text()
    heif = {
        ".heic",
        ".heics",
        ".heif",
        ".heifs",
        ".hif",
    }  # where a package registers it with Pillow
    missing = [one for one in formats.PILLOW.extensions - heif if f"`{one}`" not in page]
    assert not missing


def test_whose_code_crashed_is_known_by_the_extension(install: Install) -> None:
    install(odd=Odd)
    assert formats.decoder_of("x/a.odd") == "the plug-in image format 'odd'"
    assert formats.decoder_of("x/a.png") == formats.decoder_of("x/a") == "its decoder"
