from __future__ import annotations

import contextlib
import gc
import os
import random
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.formats import picture_extensions
from lcam_cli.images.picture import Picture
from lcam_cli.images.pillow import readable_formats
from lcam_cli.images.read import read_picture


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """A smooth image in which no two pixels are alike."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5, y * 7, x + y], axis=-1).astype(np.uint8))


def pixels(path: Path) -> np.ndarray:
    picture = read_picture(str(path))
    assert picture.mode == "RGB"
    return np.array(picture)


def reason(path: Path | str, **options: int) -> str:
    with pytest.raises(BadImageError) as caught:
        read_picture(str(path), **options)
    assert "\n" not in caught.value.reason
    assert 0 < len(caught.value.reason) < 100
    return caught.value.reason


# pytest undoes the filter that read.py sets at import; test_bombs… shows it at work.
pytestmark = pytest.mark.filterwarnings(r"ignore::Warning:PIL\..*")

# --- images that can be read -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a b ü 猫.png", "png.jpg", "x"]
)
def test_lossless_formats_under_any_name(tmp_path: Path, name: str) -> None:
    suffix = Path(name).suffix.removeprefix(".")
    kind = {"bmp": "BMP", "tif": "TIFF", "ppm": "PPM"}.get(suffix, "PNG")
    gradient().save(tmp_path / name, kind)
    np.testing.assert_array_equal(pixels(tmp_path / name), np.array(gradient()))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        with Path(path).open("wb") as file:
            gradient().save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    np.testing.assert_array_equal(np.array(read_picture(path)), np.array(gradient()))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG2000"])
def test_other_formats(tmp_path: Path, kind: str) -> None:
    if kind not in readable_formats():
        pytest.skip(f"this Pillow has no {kind}")
    quality = {} if kind == "JPEG2000" else {"quality": 95}
    gradient().save(tmp_path / "a", kind, **quality)
    difference = np.abs(pixels(tmp_path / "a").astype(int) - np.array(gradient()))
    assert difference.mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (20000, 3), (1, 5000)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "a.png")
    picture = read_picture(str(tmp_path / "a.png"))
    assert picture.size == size
    assert picture.getpixel((size[0] - 1, size[1] - 1)) == (9, 8, 7)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_exif_orientations_come_out_upright(
    tmp_path: Path, orientation: int, kind: str
) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = (255, 0, 0)  # red top left, green top right, blue bottom left
    upright[:16, 32:] = (0, 255, 0)
    upright[16:, :16] = (0, 0, 255)
    # What a camera stores so that orientation n shows `upright`, from the EXIF standard's table of
    # where row 0 and column 0 lie.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossy = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a", kind, exif=exif, **lossy)
    shown = pixels(tmp_path / "a").astype(int)
    assert shown.shape == upright.shape
    assert np.abs(shown - upright).max() < 12


@pytest.mark.parametrize(
    "block", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"", b"\xff"]
)
def test_broken_exif_does_not_spoil_a_good_picture(tmp_path: Path, block: bytes) -> None:
    gradient().save(tmp_path / "a.jpg", exif=block)
    assert pixels(tmp_path / "a.jpg").shape == (30, 40, 3)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    # Pillow stores CMYK JPEGs inverted, as Adobe does; full cyan ink must come out cyan.
    for ink, colour in [((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))]:
        Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.jpg", quality=95)
        assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()[:200]
        assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - colour).max() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 257, 32768, 65535, 128, 129]], np.uint16)
    if kind == "PPM":
        (tmp_path / "a").write_bytes(b"P5 6 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / "a", kind)
    for channel in range(3):
        assert pixels(tmp_path / "a")[0, :, channel].tolist() == [0, 1, 128, 255, 0, 1]


def test_16_bit_grey_big_endian_tiff(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (3, 1), b"\x00\x00\x80\x00\xff\xff").save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # 0..1
        ([0.0, 0.25, 0.5], [0, 64, 128]),  # 0..1, not stretched
        ([0.0, 100.0, 200.0], [0, 100, 200]),  # 0..255
        ([0.0, 257.0, 25700.0], [0, 1, 100]),  # 0..65535
        ([-1.0, 0.0, 1.0], [0, 128, 255]),  # negative: stretched
        ([0.0, 1e30, 2e30], [0, 128, 255]),  # beyond all: stretched
        ([3e38, -3e38, 0.0], [255, 0, 128]),
        ([float("nan"), float("inf"), 1.0], [0, 0, 255]),
        ([-2.0, -2.0, -2.0], [0, 0, 0]),
    ],
)
def test_float_tiff(tmp_path: Path, values: list[float], shown: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif")[0, :, 1].tolist() == shown


def test_32_bit_integer_tiff(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], np.int32)).save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.array([[-(2**31), 0, 2**31 - 1]], np.int32)).save(tmp_path / "b.tif")
    assert pixels(tmp_path / "b.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_palettes_and_transparency_lie_on_white(tmp_path: Path) -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "one.png", transparency=1)
    palette.save(tmp_path / "each.png", transparency=bytes([255, 0, 51]))
    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
    assert pixels(tmp_path / "opaque.png")[0].tolist() == [red, green, blue]
    assert pixels(tmp_path / "one.png")[0].tolist() == [red, white, blue]
    assert pixels(tmp_path / "each.png")[0].tolist() == [red, white, [204, 204, 255]]

    rgba = np.array([[[9, 8, 7, 255], [9, 8, 7, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    assert pixels(tmp_path / "rgba.png")[0].tolist() == [[9, 8, 7], white, [204, 204, 204]]
    Image.fromarray(rgba[..., 2:], "LA").save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png")[0].tolist() == [[7, 7, 7], white, [204, 204, 204]]
    Image.fromarray(rgba[..., :3]).save(tmp_path / "key.png", transparency=(9, 8, 7))
    assert pixels(tmp_path / "key.png")[0].tolist() == [white, white, [0, 0, 0]]


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0].tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], **options)
    assert pixels(tmp_path / "a")[0, 0].tolist() == [255, 0, 0]


def test_shorter_side_lets_a_jpeg_be_decoded_smaller(tmp_path: Path) -> None:
    gradient(400, 300).save(tmp_path / "a.jpg")
    path = str(tmp_path / "a.jpg")
    assert read_picture(path).size == (400, 300)
    assert read_picture(path, shorter_side=75).size == (100, 75)
    assert read_picture(path, shorter_side=76).size == (200, 150)
    assert read_picture(path, shorter_side=301).size == (400, 300)


# --- files that cannot ---------------------------------------------------------------------------


def encoded(kind: str) -> bytes:
    stream = BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(stream, kind)
    return stream.getvalue()


def test_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "empty file"
    (tmp_path / "text.jpg").write_text("not an image at all\n" * 50)
    assert reason(tmp_path / "text.jpg") == "not an image, or damaged at its start"
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "folder.jpg") == "a folder, not an image"
    assert reason(tmp_path / "gone.jpg") == "no such file"
    assert reason(f"{tmp_path}/gone\0.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    assert "symbolic links" in reason(tmp_path / "self.jpg")
    assert reason("/dev/null") == "not a regular file"


def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    done = threading.Thread(target=lambda: reason(tmp_path / "pipe.jpg"), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive()
    assert reason(tmp_path / "pipe.jpg") == "not a regular file"


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient().save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    status = (tmp_path / "a.png").stat()
    monkeypatch.setattr(os, "stat", lambda *_, **__: status)
    caught: list[str] = []
    done = threading.Thread(target=lambda: caught.append(reason(tmp_path / "pipe")), daemon=True)
    done.start()
    done.join(5)
    assert len(caught) == 1


def test_permission_denied(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    if os.access(tmp_path / "a.png", os.R_OK):
        pytest.skip("this user may read every file")
    assert reason(tmp_path / "a.png") == "permission denied"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, kind: str, kept: float) -> None:
    data = encoded(kind)
    (tmp_path / "a").write_bytes(data[: int(len(data) * kept)])
    told = reason(tmp_path / "a")
    if kind == "JPEG":
        assert told == "truncated JPEG"
    assert told.split()[0] in ("truncated", "damaged", "not")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PSD", "JPEG2000"])
def test_random_damage_never_escapes_as_another_error(tmp_path: Path, kind: str) -> None:
    data = b"8BPS\0\1" + bytes(500) if kind == "PSD" else encoded(kind)
    rng = random.Random(kind)
    for k in range(60):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 5, 50])):
            damaged[rng.randrange(min(len(data), 400 if k % 2 else len(data)))] = rng.randrange(256)
        (tmp_path / "a").write_bytes(damaged)
        with contextlib.suppress(BadImageError):
            assert read_picture(str(tmp_path / "a"), max_pixels=10_000_000).mode == "RGB"


def test_a_script_for_a_printer_is_not_run(tmp_path: Path) -> None:
    # Pillow would hand EPS to Ghostscript, a program that follows the file's orders.
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert reason(tmp_path / "a.jpg").startswith("not an image")
    assert not {"EPS", "WMF", "HDF5", "GRIB"} & set(readable_formats())
    assert not {".eps", ".ps", ".pdf", ".h5", ".wmf", ".mpg"} & picture_extensions()
    assert {
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".gif",
        ".pgm",
    } <= picture_extensions()
    assert (".avif" in picture_extensions()) == features.check("avif")


def png_header(width: int, height: int) -> bytes:
    """A PNG that only claims to have pixels."""
    whole = BytesIO()
    Image.new("L", (1, 1)).save(whole, "PNG")
    data = bytearray(whole.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("size", "told"),
    [((20_000, 10_000), "20000 × 10000"), ((40_000, 30_000), "1,200,000,000")],
)
def test_bombs_are_refused_from_the_header_without_a_warning(
    tmp_path: Path, size: tuple[int, int], told: str
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    code = (
        "import sys\n"
        "from lcam_cli.errors import BadImageError\n"
        "from lcam_cli.images.read import read_picture\n"
        "try: read_picture(sys.argv[1])\n"
        "except BadImageError as error: print(error.reason.encode('ascii', 'replace').decode())\n"
    )
    for flags in ([], ["-W", "error"]):
        run = subprocess.run(
            [sys.executable, *flags, "-c", code, str(tmp_path / "bomb.png")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stderr == ""
        assert told.replace("×", "?") in run.stdout
        assert "--max-pixels 178956970" in run.stdout


def test_max_pixels_is_a_limit_that_can_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # as if Pillow's own limit were in the way
    gradient(40, 30).save(tmp_path / "a.png")
    assert "40 × 30" in reason(tmp_path / "a.png", max_pixels=1199)
    assert read_picture(str(tmp_path / "a.png"), max_pixels=1200).size == (40, 30)


def open_handles() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_many_threads_leak_no_handles(tmp_path: Path) -> None:
    writers: list[Callable[[Path], object]] = [
        lambda path: gradient().save(path, "PNG"),
        lambda path: gradient().save(path, "TIFF", save_all=True, append_images=[gradient()]),
        lambda path: path.write_bytes(encoded("JPEG")[:900]),
        lambda path: path.write_text("text"),
    ]
    for k, write in enumerate(writers):
        write(tmp_path / str(k))

    def attempt(k: int) -> bytes | str:
        try:
            return read_picture(str(tmp_path / str(k % 4))).tobytes()
        except BadImageError as error:
            return error.reason

    alone = [attempt(k) for k in range(4)]
    gc.collect()
    gc.disable()  # handles must be closed by name, not by chance
    try:
        before = open_handles()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(attempt, range(200))) == alone * 50
        assert open_handles() <= before
    finally:
        gc.enable()


def test_large_grey_pictures_are_scaled_as_a_whole_in_little_memory(tmp_path: Path) -> None:
    """They are converted in bands; the least and the greatest value are those of all bands."""
    values = np.zeros((1100, 40), np.int32)
    values[600, 3], values[1099, 39] = 100_000, -100_000  # stretched from here to there
    Image.fromarray(values).save(tmp_path / "a.tif")
    read = pixels(tmp_path / "a.tif")[..., 0]
    assert (read[600, 3], read[1099, 39]) == (255, 0)
    assert (np.delete(read.ravel(), [600 * 40 + 3, 1099 * 40 + 39]) == 128).all()
    tracemalloc.start()
    deep, _ = pixels_of(Picture(Image.new("F", (2000, 2000), 0.5)))
    assert (deep.as_rgb() == 128).all()
    assert tracemalloc.get_traced_memory()[1] < 2000 * 2000 * 16
    tracemalloc.stop()
