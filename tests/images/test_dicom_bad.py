"""DICOM files that are damaged, lie about their size, or hold no image: a short reason each."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from lcam_cli.errors import BadImageError
from lcam_cli.images import dicom_frame
from lcam_cli.images.dicom import DicomFormat
from lcam_cli.images.dicom_kinds import without_pixels
from tests.images.dicom_files import (
    TEST_FILES,
    compressed,
    dataset,
    dicom,
    file_of_pydicom,
    item,
    read,
    reason,
    written,
)

# pytest takes the filters away that reading sets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

VALUES = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
GOOD = dicom(VALUES)
STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        (STORAGE + "88.11", "a structured report"),
        (STORAGE + "88.59", "a selection of key objects"),
        (STORAGE + "481.5", "an RT plan"),
        (STORAGE + "481.3", "an RT structure set"),
        (STORAGE + "11.1", "a presentation state, which says how to show other files"),
        (STORAGE + "9.1.1", "a waveform, such as an ECG or sound"),
        (STORAGE + "104.1", "an encapsulated PDF document"),
        (STORAGE + "104.2", "an encapsulated document"),
        (STORAGE + "66", "raw data"),
        (STORAGE + "66.1", "a spatial registration"),
        ("1.2.840.10008.1.3.10", "a DICOMDIR, which lists other files"),
    ],
)
def test_what_has_no_pixels_is_named(sop_class: str, kind: str) -> None:
    assert reason(written(dataset(SOPClassUID=sop_class))) == f"no pixels: {kind}"


@pytest.mark.parametrize("sop_class", ["", STORAGE + "2", STORAGE + "6655", "1.2.3", "9" * 64])
def test_other_files_without_pixels(sop_class: str) -> None:
    assert without_pixels(sop_class) == "DICOM without pixels"


def test_transfer_syntaxes_that_are_not_read() -> None:
    data = GOOD.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")
    assert reason(data) == "its transfer syntax 1.2.840.10008.1.9.9 is not supported"
    film = compressed(VALUES, [b"film"], "1.2.840.10008.1.2.4.102")
    assert reason(film) == (
        "its transfer syntax 1.2.840.10008.1.2.4.102 (MPEG-4 AVC/H.264 High Profile / Level 4.1) "
        "is not supported"
    )
    odd = GOOD.replace(b"1.2.840.10008.1.2.1\0", b"Citizen^Jane^Anne^Dr")
    assert reason(odd) == "its transfer syntax that is not a UID is not supported"


def test_decoder_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        is_available = False

    monkeypatch.setattr(dicom_frame, "get_decoder", lambda syntax: Missing)
    data = (TEST_FILES / "MR_small_jp2klossless.dcm").read_bytes()
    assert reason(data) == (
        "JPEG 2000 pixels, whose decoder is missing: pip install 'lcam-cli[medical]'"
    )


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm",
                                  "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm",
                                  "examples_palette.dcm", "MR_small_implicit.dcm"])  # fmt: skip
def test_cut_anywhere(name: str) -> None:
    data = file_of_pydicom(name).read_bytes()
    for part in range(1, 40):
        why = reason(data[: len(data) * part // 40])
        assert "internal" not in why
    assert reason(data[:133]) in (
        "DICOM without pixels", "not DICOM, or damaged at its start"
    )  # fmt: skip


def test_where_it_is_cut_is_said() -> None:
    assert reason(GOOD[:-2]) == "cut short: its pixels end too early"
    at = GOOD.index(b"\xe0\x7f\x10\0")
    assert reason(GOOD[: at - 2]) == "cut short: it ends before its pixels"


def lied(data: bytes, element: tuple[int, int], value: int) -> bytes:
    """A file whose header has another 16-bit number."""
    begin = struct.pack("<HH2sH", *element, b"US", 2)
    at = data.index(begin) + len(begin)
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


def test_sizes_that_lie() -> None:
    rows, columns = (0x28, 0x10), (0x28, 0x11)
    huge = lied(lied(GOOD, rows, 65535), columns, 65535)
    assert reason(huge) == "too many pixels: 65535 × 65535, over --max-pixels 1000000"
    assert reason(huge, max_pixels=10**10) == "cut short: its pixels end too early"
    assert reason(lied(GOOD, rows, 65)) == "cut short: its pixels end too early"
    assert reason(lied(GOOD, rows, 0)) == "an image without pixels"
    assert reason(lied(GOOD, (0x28, 0x02), 4)) == "its number of channels is not 1 or 3"
    for bits in (0, 7, 12, 64, 65535):
        assert "number of bits" in reason(lied(GOOD, (0x28, 0x100), bits))
    assert "number of bits" in reason(lied(GOOD, (0x28, 0x101), 17))


def refused(data: bytes) -> str:
    with pytest.raises(BadImageError) as error:
        DicomFormat().count(io.BytesIO(data))
    return error.value.reason


def test_four_gigabytes_of_frames_in_a_small_file() -> None:
    """No memory is taken for what is declared."""
    lies = dicom(np.zeros((1, 500, 500), np.uint16), NumberOfFrames=9000)
    packed = written(dataset(np.zeros((1, 500, 500), np.uint16), NumberOfFrames=2**31 - 1),
                     DeflatedExplicitVRLittleEndian)  # fmt: skip
    tracemalloc.start()
    assert refused(lies) == ("cut short, or damaged: it declares 9,000 frames, but has room for 1")
    assert reason(lies, entry=8999) == "cut short: its pixels end too early"
    assert refused(packed).startswith("cut short, or damaged: it declares 2,147,483,647 frames")
    pieces = [b"\xff\xd8\xff\xd9"] * 2
    many = compressed(np.zeros((1, 8, 8), np.uint8), pieces, JPEGBaseline8Bit, NumberOfFrames=10**8)
    assert refused(many).startswith("cut short, or damaged: it declares 100,000,000 frames")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_numbers_of_frames_that_are_none() -> None:
    good = dicom(VALUES[None], NumberOfFrames="1")
    for text in (b"-1", b"no", b"1.", b"1e"):
        data = good.replace(b"IS\x02\x001 ", b"IS\x02\x00" + text)
        if text == b"1.":
            assert read(data)
        else:
            assert (
                reason(data) == "damaged DICOM header: not a whole number as its number of frames"
            )


def test_deflated_bombs() -> None:
    """A few kilobytes of zeros are gigabytes: neither header nor pixels take memory for them."""
    start = written(dataset(VALUES), DeflatedExplicitVRLittleEndian)
    begin = 132 + 12 + struct.unpack("<I", start[140:144])[0]
    meta, plain = start[:begin], zlib.decompress(start[begin:], -zlib.MAX_WBITS)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    at = plain.index(b"\x28\0\x02\0")
    # An element of 1.5 GB before the image's own.
    bomb = deflater.compress(plain[:at] + struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, 1_500_000_000))
    bomb += b"".join(deflater.compress(bytes(10**7)) for _ in range(20)) + deflater.flush()
    tail = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    long = tail.compress(plain) + tail.compress(bytes(2 * 10**8)) + tail.flush()
    tracemalloc.start()
    assert reason(meta + bomb) == "deflated, with a header that has no end"
    assert np.array_equal(read(meta + long).pixels, VALUES), "what comes behind is not inflated"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160_000_000  # a header may have 64 MiB
    damaged = bytearray(start)
    damaged[begin + 40 : begin + 60] = bytes(20)
    reason(bytes(damaged))


def test_compressed_frames_that_are_larger_than_the_header_says() -> None:
    """A decoder takes the memory that the code stream asks for: that is compared first."""
    name = {JPEG2000Lossless: "MR_small_jp2klossless", JPEGLSLossless: "MR_small_jpeg_ls_lossless",
            JPEGBaseline8Bit: "SC_rgb_small_odd_jpeg"}  # fmt: skip
    for syntax, file in name.items():
        data = bytearray((TEST_FILES / f"{file}.dcm").read_bytes())
        if syntax == JPEG2000Lossless:
            at = data.index(b"\xff\x4f\xff\x51") + 8
            data[at : at + 8] = struct.pack(">II", 60_000, 60_000)
        else:
            at = data.index(b"\xff\xf7" if syntax == JPEGLSLossless else b"\xff\xc0") + 5
            data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
        assert "of 60000 × 60000 ×" in reason(bytes(data))
    zeros = compressed(np.zeros((8, 8), np.uint8), [b"\0" * 100_000], RLELossless)
    assert reason(zeros) == "RLE pixels that are longer than the image"


def test_offsets_that_lead_nowhere() -> None:
    frames = [b"\xff\xd8" + bytes(20)] * 2
    data = compressed(np.zeros((2, 8, 8), np.uint8), frames, JPEGBaseline8Bit, NumberOfFrames=2)
    at = data.index(b"\xfe\xff\x00\xe0\x08\0\0\0") + 8
    for offset in (1, 7, 10**6, 2**32 - 1):
        reason(data[:at] + struct.pack("<II", 0, offset) + data[at + 8 :], entry=1)
    wrong = struct.pack("<Q", 2**63)
    more = compressed(
        np.zeros((1, 8, 8), np.uint8), frames[:1], JPEGBaseline8Bit, NumberOfFrames=1,
        ExtendedOffsetTable=wrong, ExtendedOffsetTableLengths=wrong,
    )  # fmt: skip
    reason(more)


def nested(depth: int, *, private: bool = False) -> Dataset:
    inner = item(SOPClassUID="1.2")
    for _ in range(depth):
        outer = Dataset()
        if private:
            block = outer.private_block(0x41, "lcam", create=True)
            block.add_new(1, "SQ", Sequence([inner]))
        else:
            outer.ReferencedSeriesSequence = [inner]
        inner = outer
    return inner


def test_nested_sequences() -> None:
    file = dataset(VALUES)
    file.update(nested(40))
    assert np.array_equal(read(written(file)).pixels, VALUES)
    # Deeper than calls can be: written by hand, of unknown length, before the image's elements.
    at = GOOD.index(b"\x28\0\x02\0")
    for depth in (900, 100_000):
        deep = (struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
                + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth  # fmt: skip
        assert reason(GOOD[:at] + deep + GOOD[at:]) in (
            "damaged DICOM header", "DICOM without pixels", "cut short: it ends before its pixels"
        )  # fmt: skip


def test_garbage_in_private_elements() -> None:
    rng = np.random.default_rng(0)
    at = GOOD.index(b"\x28\0\x02\0")
    for vr in (b"OB", b"UN", b"LO", b"zz", b"\0\0", b"SQ"):
        for length in (0, 8, 200):
            body = rng.bytes(length)
            long = vr in (b"OB", b"UN", b"SQ")
            size = struct.pack("<HI", 0, length) if long else struct.pack("<H", length)
            element = struct.pack("<HH2s", 0x19, 0x1001, vr) + size + body
            data = GOOD[:at] + element + GOOD[at:]
            with contextlib.suppress(BadImageError):
                assert np.array_equal(read(data).pixels, VALUES)


def test_wrong_representations() -> None:
    """A header's numbers as texts, bytes or floats: read where they are numbers, else refused."""
    begin = struct.pack("<HH2sH", 0x28, 0x10, b"US", 2)
    rest = GOOD[GOOD.index(begin) + 10 :]
    before = GOOD[: GOOD.index(begin)]
    for vr, value in ((b"IS", b"64"), (b"LO", b"64"), (b"FD", struct.pack("<d", 64.0))):
        element = struct.pack("<HH2sH", 0x28, 0x10, vr, len(value)) + value
        assert np.array_equal(read(before + element + rest).pixels, VALUES)
    for vr, value in ((b"LO", b"Jane"), (b"PN", b"A^B "), (b"FD", struct.pack("<d", 6.5))):
        element = struct.pack("<HH2sH", 0x28, 0x10, vr, len(value)) + value
        why = reason(before + element + rest)
        assert why == "damaged DICOM header: not a whole number as its height"


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"PhotometricInterpretation": None}, "does not say whether its pixels are grey or colour"),
        ({"PhotometricInterpretation": "HSV"}, "its kind of colours is not supported"),
        ({"PhotometricInterpretation": "CITIZEN^JAN"}, "its kind of colours is not supported"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a palette that is missing"),
        ({"BitsAllocated": None}, "does not say its number of bits"),
        ({"Rows": None}, "does not say its height"),
        ({"RescaleSlope": "0", "RescaleIntercept": "3"}, "maps all values to one value"),
        ({"WindowCenter": "3", "WindowWidth": "0"}, "the window in its header has width 0"),
        ({"WindowCenter": "3", "WindowWidth": "-4"}, "the window in its header has width 0"),
        ({"WindowCenter": "3", "WindowWidth": "4", "VOILUTFunction": "CUBIC"}, "an unknown kind"),
        ({"VOILUTSequence": [item(LUTDescriptor=[4, 0, 12])]}, "a damaged lookup table"),
        ({"VOILUTSequence": [Dataset()]}, "a damaged lookup table"),
    ],
)
def test_headers_that_make_no_sense(elements: dict[str, Any], why: str) -> None:
    assert why in reason(dicom(VALUES, **elements))


def test_what_is_ignored() -> None:
    """Pixels that are not square, overlays, and a window that has no numbers."""
    data = dicom(VALUES, PixelAspectRatio=["2", "1"], PixelSpacing=["0.1", "0.3"], WindowCenter="",
                 WindowWidth="")  # fmt: skip
    assert np.array_equal(read(data).pixels, VALUES)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_flipped_bytes_of_the_header(syntax: str) -> None:
    """Every byte of a header in turn: it is read, or refused as an image is."""
    good = written(dataset(VALUES[:4, :4], WindowCenter="40", WindowWidth="400"), syntax)
    rng = np.random.default_rng(0)
    for at in range(128, len(good) - 32):
        data = bytearray(good)
        data[at] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(BadImageError):
            read(bytes(data))


def test_the_first_frame_of_a_file_cut_short_does_not_pass_for_all_of_it() -> None:
    values = np.zeros((1, 8, 9), np.uint16)
    assert reason(dicom(values, NumberOfFrames=3)) == (
        "cut short, or damaged: it declares 3 frames, but has room for 1"
    )
