"""Pictures of more than 8 bits: what the classifier gets, and what is told of the lost ones."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lcam_cli.images.decoder import borrowed_decoder, read_whole
from lcam_cli.images.depth import fitting_window, narrow_pictures
from lcam_cli.images.picture import ReadOptions
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.read import MAX_PIXELS, read_picture, read_pixels
from lcam_cli.images.request import Request
from lcam_cli.images.rgb import Levels
from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import SMALL

lcam = job.lcam

GREY = np.linspace(0, 255, 40 * 30).round().reshape(30, 40)


def deep_png(path: Path, values: NDArray[np.uint16]) -> None:
    """Write 16 bits a channel, grey or RGB or RGBA, which Pillow does not write in colour."""
    kinds = {2: 0, 3: {3: 2, 4: 6}.get(values.shape[-1], 0)}
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 16, kinds[values.ndim], 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def twelve_bit_tiff(path: Path, values: NDArray[np.uint16]) -> None:
    """Write grey of 12 bits a pixel, two pixels in three bytes."""
    height, width = values.shape
    pairs = values.reshape(-1, 2).astype(int)
    first, second = pairs[:, 0], pairs[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    at = 8 + len(data)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", at) + data + directory)


def write(path: Path, kind: str) -> None:
    scaled = {"12": GREY * (4095 / 255), "16": GREY * 257, "8": GREY}
    values = scaled[kind.rpartition(" ")[2]].round().astype(np.uint16)
    colours = np.stack([values] * 3, 2)
    match kind.split(maxsplit=1)[0]:
        case "png":
            Image.fromarray(values).save(path, "PNG")
        case "tiff":
            Image.fromarray(values).save(path, "TIFF")
        case "rgb":
            deep_png(path, colours)
        case "rgba":
            deep_png(path, np.dstack([colours, np.full_like(values, 65535)]))
        case "int32":
            Image.fromarray(values.astype(np.int32)).save(path, "TIFF")
        case "float":
            Image.fromarray(values.astype(np.float32)).save(path, "TIFF")
        case "pgm":
            path.write_bytes(b"P5 40 30 4095\n" + values.astype(">u2").tobytes())
        case "packed":
            twelve_bit_tiff(path, values)
        case "jpeg":
            Image.fromarray(GREY.astype(np.uint8)).point(lambda v: v // 16).save(path, "JPEG")


def read_with_levels(path: Path) -> tuple[Pixels, Levels | None]:
    return read_pixels(str(path), ReadOptions(MAX_PIXELS))


@pytest.mark.parametrize(
    ("kind", "narrow"),
    [
        ("png 12", (0, 4095, 65535)),
        ("png 8", (0, 255, 65535)),
        ("tiff 12", (0, 4095, 65535)),
        ("rgb 12", (0, 4095, 65535)),
        ("rgba 12", (0, 4095, 65535)),
        ("rgb 8", (0, 255, 65535)),
        ("int32 12", (0, 4095, 65535)),
        ("float 12", (0, 4095, 65535)),
        ("png 16", None),
        ("rgb 16", None),
        ("float 8", None),  # taken for 0 to 255
        ("pgm 12", None),  # the file says that 4095 is white
        ("packed 12", None),  # and so do 12 bits a pixel
        ("jpeg 8", None),  # a dark image of 8 bits is one
    ],
)
def test_less_than_an_eighth_of_the_range_is_noticed(
    tmp_path: Path, kind: str, narrow: tuple[float, float, float] | None
) -> None:
    path = tmp_path / "a"
    write(path, kind)
    picture, levels = read_with_levels(path)
    if narrow is None:
        assert levels is None or not levels.are_narrow
        if kind != "jpeg 8":
            np.testing.assert_allclose(picture.as_rgb()[..., 0], GREY, atol=1)
        return
    assert levels is not None
    assert levels.are_narrow
    assert (levels.low, levels.high, levels.white) == narrow


def test_a_single_value_or_an_eighth_is_no_lost_picture(tmp_path: Path) -> None:
    for values in ([0, 0, 0], [700, 700, 700], [0, 8192, 1], [-4000, 0, 4000], [30000, 60000, 0]):
        Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
        levels = read_with_levels(tmp_path / "a.tif")[1]
        assert levels is not None
        assert not levels.are_narrow
    Image.fromarray(np.array([[30000, 31000]], np.int32)).save(tmp_path / "a.tif")
    levels = read_with_levels(tmp_path / "a.tif")[1]
    assert levels is not None
    assert levels.are_narrow  # grey all over, to the classifier


@pytest.mark.parametrize(
    ("levels", "window"),
    [
        ([Levels(3, 4011, 0, 65535)], (0, 4011)),
        ([Levels(3, 3000, 0, 65535), Levels(200, 4095, 0, 65535)], (0, 4095)),
        ([Levels(30000, 31000, 0, 65535)], (30000, 31000)),
        ([Levels(-1024, 3071, -32768, 32767)], (-1024, 3071)),  # int16 of a scanner
        ([Levels(0.25, 0.26, 0, 1)], (0.25, 0.26)),
    ],
)
def test_the_window_that_is_named_fits_all(
    levels: list[Levels], window: tuple[float, float]
) -> None:
    assert fitting_window(levels) == window


@pytest.fixture
def _log_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ran before may have kept the log to itself.

    Here and not in the test: pytest listens at such a log and at those above it, so that a log
    which is opened within a test is heard twice.
    """
    monkeypatch.setattr(logging.getLogger("lcam"), "propagate", True)


@pytest.mark.usefixtures("_log_is_heard")
def test_a_program_is_told_at_once_and_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / name, "png 12")
    with narrow_pictures.reported_to(lambda _: None):
        pass  # whatever other tests have read
    with borrowed_decoder() as decoder:
        decoder.read(Request(str(tmp_path / "a.png"), preprocess=SMALL))
        decoder.read(Request(str(tmp_path / "a.png"), preprocess=SMALL, seeds=(1, 2, 3)))
        decoder.read(Request(str(tmp_path / "b.png"), preprocess=SMALL))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"1 image uses less than an eighth of the range of its type (e.g. {tmp_path}/a.png: 0 to "
        "4095 of 65535): nearly black, or without contrast, to the classifier; --window 0,4095 "
        "shows them"
    )
    np.testing.assert_array_equal(
        np.asarray(read_whole(str(tmp_path / "a.png"), 10**6)),
        np.asarray(read_picture(str(tmp_path / "a.png"))),
    )


def test_a_run_tells_of_them_once_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam
) -> None:
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 3)
    for name in ("xa.png", "xb.png"):
        write(Path("photos", name), "png 12")
    net = ("--backbone", "own.py:net")
    small = (*net, "--image-size", "32", "--batch-size", "4", "--workers", "2")
    for words in (
        ("explain", "photos", *small, "--method", "gradcam", "--overlays", "o"),
        ("evaluate", *net),
        ("compare", "photos", *small, "--methods", "gradcam,rise", "--rise-masks", "4"),
        ("train", "photos", *small, "--epochs", "3"),
    ):
        done = lcam(*words)
        assert done.code == 0, done.err
        warnings = [line for line in done.err.splitlines() if "eighth" in line]
        assert len(warnings) == 1, words
        assert warnings[0].startswith("warning: 2 images use less than an eighth")
        assert "photos/xa.png: 0 to 4095 of 65535" in warnings[0]
        assert warnings[0].endswith("--window 0,4095 shows them")
    Path("photos/xa.png").unlink()
    Path("photos/xb.png").unlink()
    assert (
        "eighth" not in lcam("explain", "photos", *small, "--method", "gradcam", "--overwrite").err
    )


def test_no_window_is_named_that_fits_none(tmp_path: Path) -> None:
    lines: list[str] = []
    with narrow_pictures.reported_to(lines.append):
        narrow_pictures.add(str(tmp_path / "ct"), Levels(-1024, 3071, -32768, 32767))
        narrow_pictures.add(str(tmp_path / "dose"), Levels(0, 10**8, 0, 2**32 - 1))
    assert "differ too much for one --window" in lines[0]
