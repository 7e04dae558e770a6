"""TIFFs of more than Pillow keeps: every channel at its depth, and no file but the one named."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.pillow import PillowFormats
from lcam_cli.images.read import _decode
from lcam_cli.images.tiff import Tiff
from lcam_cli.images.tiff_layout import ChannelStack, channel_stack

MANY = 10**7


def values(*shape: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def written(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def read(content: bytes, max_pixels: int = MANY) -> Picture:
    return _decode(io.BytesIO(content), "x.tif", ReadOptions(max_pixels))


def read_array(content: bytes) -> NDArray[Any]:
    picture = read(content)
    assert isinstance(picture.pixels, np.ndarray)
    return picture.pixels


def floats(picture: Picture) -> NDArray[Any]:
    """What the network gets of an image that is not resized, (H, W, 3)."""
    pixels, _ = pixels_of(picture)
    return pixels.changed(lambda plane: plane.crop((0, 0, *picture.size)))


CONTIGUOUS = {"photometric": "minisblack", "planarconfig": "contig"}
PLANAR = {"photometric": "minisblack", "planarconfig": "separate"}


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "jpeg2000", "packbits"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_channels_come_back_as_they_were(compression: str | None, dtype: str) -> None:
    array = values(20, 30, 5, dtype=dtype)
    options: dict[str, Any] = {"compression": compression}
    np.testing.assert_array_equal(read_array(written(array, **CONTIGUOUS, **options)), array)
    planes = np.moveaxis(array, -1, 0).copy()
    np.testing.assert_array_equal(read_array(written(planes, **PLANAR, **options)), array)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}])
def test_deep_colour_keeps_its_depth(dtype: str, options: dict[str, Any]) -> None:
    array = values(20, 30, 3, dtype=dtype)
    content = written(array, photometric="rgb", **options)
    np.testing.assert_array_equal(read_array(content), array)
    assert floats(read(content)).dtype == np.float32
    if dtype == "uint16":
        np.testing.assert_allclose(floats(read(content)), array / 65535, atol=1e-6)


def test_reading_processes_read_it_as_well(tmp_path: Path) -> None:
    array = values(20, 30, 3)
    path = tmp_path / "x.tif"
    path.write_bytes(written(array, photometric="rgb"))
    shown = np.asarray(read_whole(str(path), MANY))
    np.testing.assert_array_equal(shown, np.rint(array / 257))


def test_40_channels_fit_a_network_of_40_alone() -> None:
    picture = read(written(values(8, 9, 40), **CONTIGUOUS))
    assert pixels_of(picture, 40)[0].channels == 40
    with pytest.raises(BadImageError, match="it has 40 channels, but the network takes 3"):
        pixels_of(picture, 3)


@pytest.mark.parametrize(
    "stack",
    [
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"ome": True, "metadata": {"axes": "CYX"}},
        {"metadata": {"axes": "CYX"}, "photometric": "minisblack"},
    ],
    ids=["ImageJ", "OME", "tifffile"],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pages_that_the_file_calls_channels(stack: dict[str, Any], dtype: str) -> None:
    array = values(5, 16, 12, dtype=dtype)
    content = written(array, **stack)
    np.testing.assert_array_equal(read_array(content), np.moveaxis(array, 0, -1))


def test_of_volumes_and_series_the_channels_of_the_first_picture() -> None:
    array = values(4, 5, 16, 12)
    content = written(array, imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read_array(content), np.moveaxis(array[0], 0, -1))
    array = values(5, 4, 16, 12)
    content = written(array, ome=True, metadata={"axes": "CZYX"})
    np.testing.assert_array_equal(read_array(content), np.moveaxis(array[:, 0], 0, -1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_other_pages_are_not_read(dtype: str) -> None:
    """Grey, and colour of 8 bits, stay Pillow's; several pages are the first of them."""
    array = values(4, 16, 12, dtype=dtype)
    picture = read(written(array, photometric="minisblack"))
    np.testing.assert_array_equal(np.asarray(picture.pixels), array[0])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1", "LA"])
def test_what_has_8_bits_stays_pillow_s(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (9, 7)).save(buffer, "TIFF")
    monkeypatch.delattr(Tiff, "read")
    assert isinstance(read(buffer.getvalue()).pixels, Image.Image)
    imagej = written(values(3, 16, 12, dtype="uint8"), imagej=True, metadata={"axes": "CYX"})
    assert isinstance(read(imagej).pixels, Image.Image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_upright_as_pillow_turns(orientation: int) -> None:
    array = values(20, 30, 3)
    content = written(array, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    as_8_bits = Image.fromarray((array >> 8).astype(np.uint8))
    as_8_bits.getexif()[0x112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(as_8_bits))
    np.testing.assert_array_equal(read_array(content) >> 8, upright)


@pytest.mark.parametrize(
    ("photometric", "colours"), [("rgb", 3), ("minisblack", 1), ("miniswhite", 1)]
)
def test_transparency_is_laid_over_white(photometric: str, colours: int) -> None:
    array = np.full((8, 8, colours + 1), 20_000, np.uint16)
    array[:, :4, -1] = 0
    array[:, 4:, -1] = 65535
    content = written(
        array, photometric=photometric, planarconfig="contig", extrasamples=["unassalpha"]
    )
    plane = floats(read(content))[..., 0]
    np.testing.assert_array_equal(plane[:, :4], 1)
    shown = 1 - 20_000 / 65535 if photometric == "miniswhite" else 20_000 / 65535
    np.testing.assert_allclose(plane[:, 4:], shown, atol=1e-5)


def test_bits_between_8_and_16() -> None:
    """30 pixels of three times 12 bits are 45 of three bytes."""
    array = values(20, 30, 3) >> 4
    bits = np.unpackbits(array.astype(">u2").view(np.uint8).reshape(20, -1, 2), axis=-1)
    packed = np.packbits(bits[..., 4:].reshape(20, -1), axis=-1).reshape(20, 45, 3)
    content = bytearray(written(packed, photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(content)) as opened:
        tags = opened.pages[0].tags
        width, depth = tags["ImageWidth"], tags["BitsPerSample"]
    content[width.valueoffset : width.valueoffset + 2] = (30).to_bytes(2, "little")
    content[depth.valueoffset : depth.valueoffset + 6] = (12).to_bytes(2, "little") * 3
    picture = read(bytes(content))
    assert picture.levels is not None
    assert picture.levels.white == 4095
    np.testing.assert_array_equal(picture.pixels, array)


def test_what_is_refused() -> None:
    array = values(20, 30, 5)
    content = written(array, **CONTIGUOUS)
    with pytest.raises(BadImageError, match="too many pixels: 30 × 20 × 5, over --max-pixels 999"):
        read(content, 999)
    assert read(content, 1000).size == (30, 20)
    with pytest.raises(BadImageError, match="truncated or damaged TIFF"):
        read(content[:-40])
    with pytest.raises(BadImageError, match="whose values are not numbers"):
        read(written(values(8, 8, 5, dtype="float32").astype(np.complex64), **CONTIGUOUS))
    cut = written(values(4, 16, 12), metadata={"axes": "CYX"}, photometric="minisblack")
    # Its other channels lie behind the first page's values, which are whole.
    assert read(cut).size == (12, 16)
    with pytest.raises(BadImageError, match="a TIFF of a volume"):
        Tiff().read(
            io.BytesIO(written(values(16, 16, 16), volumetric=True, tile=(16, 16, 16))),
            ReadOptions(MANY),
        )


def test_a_strip_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    """Zeros, deflated a thousandfold: 600 MB, where the tags say 40 kB."""
    array = np.zeros((64, 64, 5), np.uint16)
    small = written(array, **CONTIGUOUS, compression="zlib", rowsperstrip=64)
    deflater = zlib.compressobj(1)
    strip = b"".join([*(deflater.compress(bytes(10**6)) for _ in range(600)), deflater.flush()])
    with tifffile.TiffFile(io.BytesIO(small)) as opened:
        page = opened.pages[0]
        offset, count = page.tags["StripOffsets"], page.tags["StripByteCounts"]
    damaged = bytearray(small + strip)
    for tag, value in ((offset, len(small)), (count, len(strip))):
        damaged[tag.valueoffset : tag.valueoffset + 4] = value.to_bytes(4, "little")
    (tmp_path / "x.tif").write_bytes(damaged)
    with pytest.raises(BadImageError, match=r"memory|damaged"):
        read_whole(str(tmp_path / "x.tif"), MANY)


def test_files_that_it_names_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OME file may say that its other channels lie in files beside it, or anywhere."""
    tifffile.imwrite(tmp_path / "secret.ome.tif", values(2, 16, 12), metadata={"axes": "CYX"})
    xml = f"""<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
    <Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="12"
    SizeY="16" SizeC="5" SizeZ="1" SizeT="1"><TiffData FirstC="1" IFD="0"><UUID
    FileName="{tmp_path}/secret.ome.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>"""
    array = values(16, 12, seed=3)
    tifffile.imwrite(tmp_path / "a.ome.tif", array, description=xml, metadata=None)
    content = (tmp_path / "a.ome.tif").read_bytes()
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    with open(tmp_path / "a.ome.tif", "rb") as file:  # noqa: PTH123
        real = tifffile.FileHandle.__init__
        monkeypatch.setattr(
            tifffile.FileHandle,
            "__init__",
            lambda self, given, *rest, **more: (
                opened.append(str(given)),
                real(self, given, *rest, **more),
            )[1],
        )
        picture = Tiff().read(file, ReadOptions(MANY))
    np.testing.assert_array_equal(picture.pixels, array)
    assert len(opened) == 1
    assert "secret" not in opened[0]
    assert channel_stack(xml) == ChannelStack(5)
    assert read(content).size == (12, 16)


@pytest.mark.parametrize(
    ("description", "stack"),
    [
        ("ImageJ=1.53\nimages=6\nchannels=3\nslices=2\n", ChannelStack(3)),
        ("ImageJ=1.53\nimages=6\nslices=6\n", None),
        ("ImageJ=1.53\nchannels=1\n", None),
        ("ImageJ=1.53\nchannels=99999999999\n", None),
        ('{"shape": [7, 4, 4], "axes": "CYX"}', ChannelStack(7)),
        ('{"shape": [7, 4, 4]}', None),
        ('{"shape": 7, "axes": "CYX"}', None),
        ("{" * 100_000, None),
        ("channels=3", None),
        ("", None),
    ],
)
def test_descriptions(description: str, stack: ChannelStack | None) -> None:
    assert channel_stack(description) == stack


def test_without_the_extra_it_is_pillow_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pillow", "unread"):
        monkeypatch.setattr(f"lcam_cli.images.{module}.is_installed", lambda package: False)
    monkeypatch.setattr(Tiff, "recognises", lambda self, head: False)
    content = written(values(20, 30, 3), photometric="rgb")
    picture = PillowFormats().read(io.BytesIO(content), ReadOptions(MANY))
    assert isinstance(picture.pixels, Image.Image)
    with pytest.raises(BadImageError, match=r"a TIFF that needs pip install 'lcam-cli\[tiff\]'"):
        read(written(values(8, 9, 40), **CONTIGUOUS))
