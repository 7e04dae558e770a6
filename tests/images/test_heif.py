"""HEIC: upright once, at its depth, whatever it is called; and nothing of it where it lies."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.find import find_images
from lcam_cli.images.heif import Heif
from lcam_cli.images.picture import Picture, ReadOptions

MANY = 10**8


def photo(**options: object) -> bytes:
    """64 × 48: red at the left, blue at the right, a green band at the top."""
    values = np.zeros((48, 64, 3), np.uint8)
    values[:, :32, 0] = values[:, 32:, 2] = 200
    values[:8] = (0, 200, 0)
    buffer = io.BytesIO()
    picture = pillow_heif.from_pillow(Image.fromarray(values))
    picture.save(buffer, quality=90, **options)
    return buffer.getvalue()


def floats(picture: Picture) -> NDArray[Any]:
    """What the network gets of an image that is not resized, (H, W, 3)."""
    pixels, _ = pixels_of(picture)
    return pixels.changed(lambda plane: plane.crop((0, 0, *picture.size)))


def test_it_is_what_libheif_and_its_plugin_for_pillow_show(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(photo())
    shown = np.asarray(pillow_heif.open_heif(tmp_path / "a.heic").to_pillow())
    np.testing.assert_array_equal(read_whole(str(tmp_path / "a.heic"), MANY), shown)
    assert find_images([str(tmp_path)]).paths == [str(tmp_path / "a.heic")]


@pytest.mark.parametrize("name", ["IMG_1.jpg", "IMG_1", "IMG_1.HEIC", "x.png"])
def test_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(photo())
    assert read_whole(str(tmp_path / name), MANY).size == (64, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_once(tmp_path: Path, orientation: int) -> None:
    """The container says so, and EXIF once more: the band is on top of what Pillow turns."""
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = photo(exif=exif.tobytes())
    (tmp_path / "a.heic").write_bytes(stored)
    as_stored = pillow_heif.open_heif(photo()).to_pillow()
    as_stored.getexif()[0x112] = orientation
    upright = ImageOps.exif_transpose(as_stored)
    read = read_whole(str(tmp_path / "a.heic"), MANY)
    assert read.size == upright.size
    difference = np.asarray(read).astype(int) - np.asarray(upright)
    assert np.abs(difference).mean() < 4  # it was encoded before it was turned, or after


@pytest.mark.parametrize("bits", [10, 12])
def test_more_than_8_bits_reach_the_network(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    values = np.ascontiguousarray(np.broadcast_to(ramp[:, None], (48, 64, 3)))
    buffer = io.BytesIO()
    pillow_heif.encode("RGB;16", (64, 48), values.tobytes(), buffer, quality=-1, chroma=444)
    picture = Heif().read(io.BytesIO(buffer.getvalue()), ReadOptions(MANY))
    assert picture.levels is not None
    assert picture.levels.white == 2**bits - 1
    plane = floats(picture)[..., 0]
    assert plane.dtype == np.float32
    np.testing.assert_allclose(plane, values[..., 0] / 65535, atol=0.004)
    assert len(np.unique(plane)) >= 60


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    values = np.full((48, 64, 4), 200, np.uint8)
    values[..., 3] = np.where(np.arange(64) < 32, 0, 255)
    pillow_heif.from_pillow(Image.fromarray(values)).save(tmp_path / "a.heic", quality=-1)
    read = np.asarray(read_whole(str(tmp_path / "a.heic"), MANY))
    np.testing.assert_allclose(read[:, :30].astype(int), 255, atol=2)
    np.testing.assert_allclose(read[:, 34:].astype(int), 200, atol=2)
    deep = np.full((48, 64, 4), 30_000, np.uint16)
    deep[..., 3] = values[..., 3].astype(np.uint16) * 257
    buffer = io.BytesIO()
    pillow_heif.encode("RGBA;16", (64, 48), deep.tobytes(), buffer, quality=-1)
    picture = Heif().read(io.BytesIO(buffer.getvalue()), ReadOptions(MANY))
    plane = floats(picture)[..., 0]
    np.testing.assert_allclose(plane[:, :30], 1, atol=0.01)
    np.testing.assert_allclose(plane[:, 34:], 30_000 / 65535, atol=0.01)


def test_what_is_refused() -> None:
    content = photo()
    with pytest.raises(BadImageError, match="too many pixels: 64 × 48, over --max-pixels 3000"):
        Heif().read(io.BytesIO(content), ReadOptions(3000))
    for cut in (60, len(content) // 2, len(content) - 100):
        with pytest.raises(BadImageError, match="truncated or damaged HEIC"):
            Heif().read(io.BytesIO(content[:cut]), ReadOptions(MANY))


@pytest.mark.parametrize(
    ("brands", "is_heif"),
    [
        (b"heic\0\0\0\0mif1", True),
        (b"mif1\0\0\0\0heic", True),
        (b"mif1\0\0\0\0avif", False),
        (b"mif1\0\0\0\0", True),
        (b"avif\0\0\0\0mif1heic", False),
        (b"isom\0\0\0\0mp42", False),
    ],
)
def test_it_is_known_by_its_brands(brands: bytes, is_heif: bool) -> None:
    head = (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands
    assert Heif().recognises(head + bytes(100)) is is_heif
    assert Heif().recognises(b"\xff\xd8\xff\xe0" + bytes(100)) is False


def test_without_the_extra_the_line_names_it(tmp_path: Path) -> None:
    """And starting imports nothing of it."""
    (tmp_path / "a.heic").write_bytes(photo())
    (tmp_path / "b.jpg").write_bytes(photo())
    shutil.copy(tmp_path / "a.heic", tmp_path / "c.parquet")
    code = f"""
import sys
from lcam_cli.errors import BadImageError
import lcam_cli.images.read as read
assert not any(map(sys.modules.get, ("pillow_heif", "pyarrow", "tifffile", "pydicom")))
from lcam_cli.images.find import find_images
found = find_images([{str(tmp_path)!r}])
print(*found.paths, *found.passed_over.lines(), sep="\\n")
try:
    read.read_picture({str(tmp_path / "b.jpg")!r})
except BadImageError as error:
    print(error.reason)
"""
    hidden = "import sys; sys.modules |= dict.fromkeys(['pillow_heif', 'pyarrow'])\n"
    done = subprocess.run(
        [sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "b.jpg"),
        f"1 .heic, 1 .parquet in {tmp_path} are not read (HEIC needs pip install "
        "'lcam-cli[heif]'; tables of images need pip install 'lcam-cli[parquet]')",
        ".heic is not read: HEIC needs pip install 'lcam-cli[heif]'",
    ], done.stderr
