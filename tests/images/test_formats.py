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

import pytest
from PIL import Image

from lcam_cli.errors import BadImageError
from lcam_cli.images import formats
from lcam_cli.images.find import find_images
from lcam_cli.images.formats import GROUP, picture_extensions, plugin_formats
from lcam_cli.images.picture import Picture, PictureFormat, ReadOptions
from lcam_cli.images.read import read_picture, read_with_levels
from lcam_cli.images.tars import locate

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
    assert reason(tmp_path / "g.dots") == "not a picture, or damaged at its start"


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
    file, place = locate(path)
    assert read_with_levels(file, place=place, name=path)[0].size == (2, 1)
    with pytest.raises(BadImageError, match="not a picture"):
        read_with_levels(file, place=place)


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
        "the plug-in picture format 'fails' failed: KeyError: b'an'"
    )
    assert read_picture(str(tmp_path / "b.dots")).size == (1, 1)
    begin = "the plug-in picture format '{0}' (brought:{0}) does not load: "
    assert [record.getMessage() for record in caplog.records] == [
        begin.format("broken") + "brought:broken is no class derived from PictureFormat",
        begin.format("wordy") + "its extensions are not like ('.npy',)",
    ]


def test_extensions_stay_with_whoever_has_them(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(dots=Dots, greedy=Greedy)
    assert picture_extensions() == {*formats.PILLOW.extensions, ".dots", ".nii.gz", ".own"}
    assert [record.getMessage() for record in caplog.records] == [
        "the plug-in picture format 'greedy' (brought:greedy) takes extensions that others have: "
        ".dots, .png"
    ]
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.dots").write_bytes(b"dots\x01\x02")
    (tmp_path / "a.own").write_bytes(b"any")
    assert read_picture(str(tmp_path / "a.png")).size == (5, 4)
    assert read_picture(str(tmp_path / "a.dots")).size == (2, 1)
    assert reason(tmp_path / "a.own") == (
        "the plug-in picture format 'greedy' failed: it returned no Picture"
    )


def test_pictures_of_our_own_formats_look_for_no_plug_ins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formats, "plugin_formats", None)
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "b.jpg")
    assert read_picture(str(tmp_path / "b.jpg")).size == (5, 4)
