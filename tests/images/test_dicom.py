"""DICOM's values and windows, against the standard's formulas worked by hand."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from lcam_cli.images.dicom import DicomFormat
from tests.images.dicom_files import (
    compressed,
    dataset,
    dicom,
    item,
    read,
    reason,
    shown,
    written,
)

ROW = np.array([[0, 1, 100, 1000, 4095]], np.uint16)
SIGNED = np.array([[-32768, -1024, 0, 976, 32767]], np.int16)


def row(data: bytes, **options: Any) -> list[float]:
    return shown(read(data, **options), options.get("window", "auto"))[0].tolist()


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_every_type_in_every_order(syntax: str, kind: str) -> None:
    values = np.arange(15).reshape(3, 5).astype(kind) * 7 - (20 if kind[0] != "u" else 0)
    picture = read(dicom(values, syntax=syntax))
    assert np.array_equal(np.asarray(picture.pixels), values)
    if kind[0] == "f":
        assert picture.levels is None, "as other floats"
    elif kind != "u1":
        assert picture.levels is not None
        info = np.iinfo(kind)
        assert picture.levels == (values.min(), values.max(), info.min, info.max)


def test_stored_bits_are_the_range() -> None:
    assert row(dicom(ROW, BitsStored=12, HighBit=11)) == pytest.approx(ROW[0] / 4095)
    signed = dicom(np.array([[-2048, 0, 2047]], np.int16), BitsStored=12, HighBit=11)
    assert row(signed) == pytest.approx([0, 2048 / 4095, 1])
    # Some put other things into the bits above; they are no part of the value.
    assert row(dicom(ROW | 0xF000, BitsStored=12, HighBit=11)) == pytest.approx(ROW[0] / 4095)


def test_rescaling_comes_before_the_range_and_the_window() -> None:
    picture = read(dicom(ROW, RescaleSlope="0.5", RescaleIntercept="-1024"))
    assert picture.levels == (-1024, 4095 / 2 - 1024, -1024, 65535 / 2 - 1024)
    assert np.array_equal(picture.pixels, ROW * np.float32(0.5) - 1024)
    elements = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    picture = read(dicom(SIGNED, **elements), window=(-1000.0, 1000.0))
    assert picture.levels is not None
    assert picture.levels[2:] == (-1000, 1000)
    assert np.array_equal(picture.pixels, SIGNED.astype(np.float32) - 1024)
    # A falling scale: what is stored as the greatest is the least.
    falling = read(dicom(ROW, RescaleSlope="-1", RescaleIntercept="65535"))
    assert falling.levels is not None
    assert falling.levels[2:] == (0, 65535)


def test_linear_window_is_the_standards() -> None:
    """PS3.3, C.11.2.1.2.1: c = 2048, w = 4096 over 12 bits is the identity; c = 40, w = 400."""
    data = dicom(ROW, BitsStored=12, WindowCenter="2048", WindowWidth="4096")
    assert row(data) == pytest.approx(ROW[0] / 4095, abs=1e-7)
    picture = read(dicom(SIGNED, WindowCenter="40", WindowWidth="400"))
    assert picture.levels is not None
    assert picture.levels[2:] == (-160, 239)
    first = dicom(SIGNED, WindowCenter=["40", "600"], WindowWidth=["400", "1600"])
    assert read(first).levels == picture.levels
    # A width of 1 is a threshold: nothing lies between.
    step = dicom(ROW, WindowCenter="100.5", WindowWidth="1")
    assert row(step) == [0, 0, 0, 1, 1]


def test_exact_and_sigmoid_windows() -> None:
    exact = dicom(ROW, WindowCenter="500", WindowWidth="1000", VOILUTFunction="LINEAR_EXACT")
    assert row(exact) == pytest.approx([0, 0.001, 0.1, 1, 1])
    sigmoid = dicom(ROW, WindowCenter="100", WindowWidth="50", VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (ROW[0].astype(float) - 100) / 50))
    assert row(sigmoid) == pytest.approx(expected, abs=1e-7)


def test_window_of_the_user_goes_before_the_files() -> None:
    data = dicom(ROW, WindowCenter="40", WindowWidth="400")
    assert row(data, window=(0.0, 4095.0)) == pytest.approx(ROW[0] / 4095)


def test_windows_of_8_bits() -> None:
    """Grey of 8 bits is only left as it is where nothing but its type says what is white."""
    values = np.array([[0, 40, 63, 200]], np.uint8)
    assert row(dicom(values)) == pytest.approx(values[0] / 255)
    assert row(dicom(values, BitsStored=6, HighBit=5)) == pytest.approx([0, 40 / 63, 1, 8 / 63])
    windowed = dicom(values, WindowCenter="100.5", WindowWidth="101")
    assert row(windowed) == pytest.approx([0, 0, 0.13, 1])
    assert row(windowed, window=(0.0, 200.0)) == pytest.approx(values[0] / 200)
    rescaled = dicom(values, RescaleSlope="2", RescaleIntercept="-100")
    assert row(rescaled, window=(-100.0, 300.0)) == pytest.approx(values[0] / 200)
    inverted = dicom(values, PhotometricInterpretation="MONOCHROME1")
    assert row(inverted, window=(0.0, 200.0)) == pytest.approx(1 - values[0] / 200)


def test_monochrome1_is_inverted() -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}
    assert row(dicom(ROW, **elements)) == pytest.approx(1 - ROW[0] / 4095)
    assert row(dicom(ROW.astype(np.uint8), PhotometricInterpretation="MONOCHROME1"))[0] == 1


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_lookup_tables(packed: bool, syntax: str) -> None:
    entries = np.array([5, 300, 70, 4000], np.uint16)
    lut = item(LUTDescriptor=[4, 10, 12], LUTData=entries.tobytes() if packed else entries.tolist())
    lut["LUTDescriptor"].VR = "US"
    lut["LUTData"].VR = "OW" if packed else "US"
    values = np.array([[0, 10, 11, 12, 13, 14, 200]], np.uint8)
    expected = [5, 5, 300, 70, 4000, 4000, 4000]
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        picture = read(dicom(values, syntax=syntax, **{name: [lut]}))
        assert np.asarray(picture.pixels)[0].tolist() == expected
        assert picture.levels == (5, 4000, 0, 4095)
    # The table of interest goes before the window, and comes after the modality's.
    both = {"ModalityLUTSequence": [lut], "WindowCenter": "150.5", "WindowWidth": "301"}
    assert row(dicom(values, **both)) == pytest.approx(np.clip(np.array(expected) / 300, 0, 1))


def test_table_for_negative_values() -> None:
    lut = item(LUTDescriptor=[3, -1, 8], LUTData=bytes([10, 20, 30, 0]))
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "SS", "OW"
    picture = read(dicom(np.array([[-5, -1, 0, 1, 2]], np.int16), VOILUTSequence=[lut]))
    assert np.asarray(picture.pixels).tolist() == [[10, 10, 20, 30, 30]]


def test_padding_is_black() -> None:
    values = np.array([[-2000, -500, 100, 900]], np.int16)
    picture = read(dicom(values, PixelPaddingValue=-2000, RescaleSlope="2", RescaleIntercept="1"))
    assert np.asarray(picture.pixels).tolist() == [[-999, -999, 201, 1801]]
    ranged = dicom(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-400)
    assert np.asarray(read(ranged).pixels).tolist() == [[100, 100, 100, 900]]
    inverted = dicom(values, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert np.asarray(read(inverted).pixels).tolist() == [[900, -500, 100, 900]]
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        everywhere = dicom(np.full((2, 2), 7, np.uint16), PixelPaddingValue=7,
                           PhotometricInterpretation=photometric)  # fmt: skip
        assert not shown(read(everywhere)).any()


def test_windows_of_frames() -> None:
    """Enhanced multi-frame: a frame's own groups, else those that all share."""
    voi = [item(WindowCenter=c, WindowWidth="100") for c in ("50", "150")]
    own = [item(FrameVOILUTSequence=[one]) for one in voi]
    shared = item(
        FrameVOILUTSequence=[item(WindowCenter="1000", WindowWidth="100")],
        PixelValueTransformationSequence=[item(RescaleSlope="2", RescaleIntercept="-1")],
    )
    values = np.arange(12, dtype=np.uint16).reshape(3, 2, 2)
    data = dicom(
        values, NumberOfFrames=3, WindowCenter="7", WindowWidth="7",
        PerFrameFunctionalGroupsSequence=own, SharedFunctionalGroupsSequence=[shared],
    )  # fmt: skip
    centers = []
    for index in range(3):
        picture = read(data, entry=index)
        assert np.array_equal(picture.pixels, 2 * values[index].astype(np.float32) - 1)
        assert picture.levels is not None
        centers.append((picture.levels.black + picture.levels.white) / 2 + 0.5)
    assert centers == [50, 150, 1000]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_frames_of_single_bits_begin_within_bytes(syntax: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (4, 3, 5), np.uint8)
    packed = np.packbits(values.ravel(), bitorder="little")
    packed = np.pad(packed, (0, len(packed) % 2))
    data = dicom(
        values, syntax=syntax, NumberOfFrames=4, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=packed.tobytes(),
    )  # fmt: skip
    for index in range(4):
        picture = read(data, entry=index)
        assert np.array_equal(shown(picture), values[index])
        assert np.array_equal(shown(picture, (0.0, 2.0)), values[index] / 2)


def test_frames_are_counted_and_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        data = dicom(values, syntax=syntax, NumberOfFrames=3)
        assert DicomFormat().count(io.BytesIO(data)) == 3
        for index in range(3):
            assert np.array_equal(np.asarray(read(data, entry=index).pixels), values[index])
        assert reason(data, entry=3) == "there is no such frame in the file"
    assert DicomFormat().count(io.BytesIO(dicom(values[0]))) == 1


def test_only_the_frame_that_is_asked_for_is_decoded() -> None:
    """Others may be garbage; each may lie in several pieces."""
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in (40, 200)]
    frames = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=95)
        frames.append(buffer.getvalue())
    data = compressed(
        np.stack(pictures), [b"garbage!", frames[1]], JPEGBaseline8Bit,
        NumberOfFrames=2, PhotometricInterpretation="YBR_FULL_422",
    )  # fmt: skip
    assert np.abs(np.asarray(read(data, entry=1).pixels).astype(int) - 200).max() <= 1
    assert "JPEG pixels" in reason(data, entry=0)


def test_memory_of_a_film_is_that_of_a_frame(tmp_path: Any) -> None:
    """400 MB of frames: the peak is what reading one takes."""
    path = tmp_path / "film.dcm"
    header = written(dataset(np.zeros((1, 500, 500), np.uint16), NumberOfFrames=800))
    begin = len(header) - 500 * 500 * 2
    length = (800 * 500 * 500 * 2).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header[: begin - 4] + length)
        file.truncate(begin + 800 * 500 * 500 * 2)
        file.seek(begin + 799 * 500 * 500 * 2)
        file.write(b"\7\0" * 500 * 500)
    code = """
import resource, sys
from lcam_cli.images.dicom import DicomFormat
from lcam_cli.images.picture import ReadOptions
def frame(index):
    with open(sys.argv[1], "rb") as file:
        return DicomFormat().read(file, ReadOptions(10**6, entry=index)).pixels
frame(0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert all((frame(index) == 7).all() == (index == 799) for index in range(700, 800))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000  # KiB


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_colours_by_pixel_and_by_plane(planar: int, kind: str) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (4, 6, 3)).astype(kind)
    stored = values.transpose(2, 0, 1) if planar else values
    data = dicom(values, PlanarConfiguration=planar, PixelData=stored.tobytes())
    picture = read(data)
    assert np.array_equal(np.asarray(picture.pixels), values)
    assert (picture.levels is None) == (kind == "u1")
    if kind == "u1":
        assert isinstance(picture.pixels, Image.Image)
        assert picture.pixels.mode == "RGB"


def test_ybr_becomes_rgb() -> None:
    """The inverse of PS3.3, C.7.6.3.1.2, by hand: (255, 0, 0) is (76, 85, 255)."""
    red = np.full((2, 2, 3), (76, 85, 255), np.uint8)
    full = read(dicom(red, PhotometricInterpretation="YBR_FULL"))
    expected = [76 + 1.402 * 127, 76 - 0.344136 * -43 - 0.714136 * 127, 76 + 1.772 * -43]
    assert np.abs(np.asarray(full.pixels)[0, 0] - np.clip(expected, 0, 255)).max() <= 1
    halved = np.array([76, 76, 85, 255] * 2, np.uint8)  # Y1 Y2 Cb Cr
    data = dicom(red, PhotometricInterpretation="YBR_FULL_422", PixelData=halved.tobytes())
    assert np.array_equal(np.asarray(read(data).pixels), np.asarray(full.pixels))


def test_compressed_without_loss() -> None:
    from pydicom.pixels import compress

    values = np.random.default_rng(0).integers(0, 4096, (64, 80)).astype(np.uint16)
    for syntax in (RLELossless, JPEG2000Lossless):
        file = dataset(values, BitsStored=12, HighBit=11)
        written(file)
        compress(file, syntax, encoding_plugin="pylibjpeg" if syntax != RLELossless else "pydicom")
        buffer = io.BytesIO()
        file.save_as(buffer)
        assert np.array_equal(read(buffer.getvalue()).pixels, values)


def palette(bits: int, entries: Any, first: int = 0, *, segmented: bool = False) -> dict[str, Any]:
    kind = np.uint8 if bits == 8 else np.uint16
    made: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, numbers in zip(("Red", "Green", "Blue"), entries, strict=True):
        begin = "Segmented" if segmented else ""
        data = np.array(numbers, kind).tobytes()
        count = 6 if segmented else len(numbers)
        made[f"{colour}PaletteColorLookupTableDescriptor"] = [count, first, bits]
        made[f"{begin}{colour}PaletteColorLookupTableData"] = data + b"\0" * (len(data) % 2)
    return made


def test_palettes() -> None:
    values = np.array([[0, 2, 3, 4, 9]], np.uint8)
    entries = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    expected = np.array(entries).T[[0, 0, 1, 2, 2]]
    picture = read(dicom(values, **palette(8, entries, 2)))
    assert np.array_equal(np.asarray(picture.pixels)[0], expected)
    deep = read(dicom(values, **palette(16, [[256 * one for one in row] for row in entries], 2)))
    assert np.array_equal(np.asarray(deep.pixels)[0], 256 * expected)
    assert deep.levels is not None
    assert deep.levels[2:] == (0, 65535)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_in_segments(bits: int) -> None:
    """PS3.3, C.7.9.2: a discrete segment, a linear one, and one that repeats the first."""
    offset = [0, 0] if bits == 16 else [0, 0, 0, 0]
    red = [0, 2, 10, 20, 1, 2, 40, 2, 1, *offset]  # 10 20, 30 40, 10 20
    values = np.arange(6, dtype=np.uint8)[None]
    picture = read(dicom(values, **palette(bits, [red] * 3, segmented=True)))
    assert np.asarray(picture.pixels)[0, :, 0].tolist() == [10, 20, 30, 40, 10, 20]


@pytest.mark.parametrize("segments", [[1, 2, 9], [2, 1, 0, 0], [7, 1, 1], [0, 2, 1]])
def test_damaged_segments_are_refused(segments: list[int]) -> None:
    values = np.zeros((1, 1), np.uint8)
    why = reason(dicom(values, **palette(16, [segments] * 3, segmented=True)))
    assert why.startswith("its palette is")


def test_without_preamble() -> None:
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        data = written(dataset(ROW), syntax, preamble=False)
        assert DicomFormat().recognises(data[:348]) is None
        assert np.array_equal(read(data).pixels, ROW)
    assert DicomFormat().recognises(dicom(ROW)[:348]) is True
    for head in (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0"):
        assert DicomFormat().recognises(head) is False


def test_reading_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        read(dicom(ROW[None], NumberOfFrames="1"))
        reason(dicom(ROW)[:-4])
    assert not [one for one in caught if "pydicom" in one.filename]
    assert capfd.readouterr() == ("", "")


def test_pydicom_is_imported_when_a_file_is_read() -> None:
    code = (
        "import sys; from lcam_cli.images import read, worker; "
        "assert 'pydicom' not in sys.modules; print(worker.__name__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_values_rise_with_what_is_stored() -> None:
    """Whatever the slope and the window, a brighter stored value is never shown darker."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.integers(0, 65536, 50)).astype(np.uint16)[None]
    for _ in range(20):
        slope, intercept = rng.uniform(0.01, 5), rng.uniform(-2000, 2000)
        data = dicom(
            values, RescaleSlope=f"{slope:.6f}", RescaleIntercept=f"{intercept:.4f}",
            WindowCenter=f"{rng.uniform(0, 9000):.2f}", WindowWidth=f"{rng.uniform(1, 9000):.2f}",
            VOILUTFunction=str(rng.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID"])),
        )  # fmt: skip
        assert all(a <= b for a, b in pairwise(row(data)))
