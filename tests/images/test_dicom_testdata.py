"""pydicom's own test files: what is read shows what pydicom's own pipeline makes of them."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lcam_cli.errors import BadImageError
from lcam_cli.images.dicom import DicomFormat
from lcam_cli.images.picture import ReadOptions
from tests.images.dicom_files import MAX_PIXELS, TEST_FILES, file_of_pydicom, read, shown

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

FORMAT = DicomFormat()

REASONS = {
    "DICOM without pixels": 54,
    "no pixels: a DICOMDIR, which lists other files": 8,
    "no pixels: an RT plan": 4,
    "no pixels: a structured report": 3,
    "its header does not say its height": 2,
    "no pixels: an RT structure set": 1,
    "no pixels: a waveform, such as an ECG or sound": 1,
    "JPEG pixels that are damaged or of an unsupported kind": 1,
    "damaged: JPEG 2000 pixels of 3722445056 × 1024 × 1, and a header of 256 × 1024 × 1": 1,
    "cut short: its pixels end too early": 1,
    "damaged DICOM header: not a whole number as its number of frames": 1,
}
"""Those of docs/medical.md. No others have a preamble, or the name and the beginning of DICOM."""


def dicom_files() -> list[Path]:
    found = []
    for path in sorted(TEST_FILES.rglob("*")):
        if path.is_file():
            recognised = FORMAT.recognises(path.read_bytes()[:348])
            if recognised or (recognised is None and path.suffix == ".dcm"):
                found.append(path)
    return found


def pictures_of(path: Path) -> int | str:
    """How many images a file has, or why none."""
    try:
        with path.open("rb") as file:
            count = FORMAT.count(file)
            FORMAT.read(file, ReadOptions(MAX_PIXELS))
    except BadImageError as error:
        return error.reason
    return count


FILES = {path: pictures_of(path) for path in dicom_files()}
READ = [path for path, found in FILES.items() if isinstance(found, int)]


@pytest.mark.skipif(pydicom.__version__ != "3.0.2", reason="other versions bring other files")
def test_how_many_are_read_and_why_others_are_not() -> None:
    refused = Counter(found for found in FILES.values() if isinstance(found, str))
    assert refused == REASONS
    assert len(READ) == 89
    assert sum(found for found in FILES.values() if isinstance(found, int)) == 163


def test_what_pydicom_decodes_is_read() -> None:
    """But for files without a transfer syntax, which it does not decode, and we do."""
    for path in set(FILES) - set(READ):
        with pytest.raises(Exception):  # noqa: B017, PT011
            pixel_array(pydicom.dcmread(path, force=True))


def by_pydicom(path: Path, index: int) -> NDArray[np.float64]:
    """What pydicom's own functions show, in 0…1.

    Their windows end at the least and the greatest value that the type can have.
    """
    file = pydicom.dcmread(path, force=True)
    values = pixel_array(file)
    values = values[index] if int(file.get("NumberOfFrames") or 1) > 1 else values
    white = 2.0**file.BitsStored - 1
    if file.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(values, file)
        return colours / float(np.iinfo(colours.dtype).max)
    if file.SamplesPerPixel == 3:
        return values / white
    padding = file.get("PixelPaddingValue")
    is_padding = np.zeros(values.shape, bool) if padding is None else values == padding
    ends = np.array(
        [[-(2.0 ** (file.BitsStored - 1)), 2.0 ** (file.BitsStored - 1) - 1], [0, white]]
    )[1 - file.PixelRepresentation]
    slope, intercept = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
    black, white = ends * slope + intercept
    values = apply_voi_lut(apply_modality_lut(values, file), file)
    grey = np.clip((values - black) / (white - black), 0, 1)
    if is_padding.any() and not is_padding.all():
        grey[is_padding] = grey[~is_padding].min()
    return 1 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey


@pytest.mark.parametrize("path", READ, ids=lambda path: path.name)
def test_it_shows_what_pydicoms_pipeline_shows(path: Path) -> None:
    for index in range(min(3, int(FILES[path]))):
        with path.open("rb") as file:
            picture = FORMAT.read(file, ReadOptions(MAX_PIXELS, entry=index))
        expected = by_pydicom(path, index)
        assert np.asarray(picture.pixels).shape == expected.shape
        # Window and rescaling are the same numbers; colours are whole grey levels.
        assert np.abs(shown(picture) - expected).max() < 1e-6


def test_frames_of_a_film_are_told_apart() -> None:
    path = file_of_pydicom("examples_ybr_color.dcm")
    whole = pixel_array(path)
    data = path.read_bytes()
    for index in (0, 7, 29):
        assert np.array_equal(np.asarray(read(data, entry=index).pixels), whole[index])


def resaved(path: Path) -> bytes | None:
    """A file deflated, where its pixels are not compressed."""
    file = pydicom.dcmread(path)
    if file.file_meta.get("TransferSyntaxUID") != "1.2.840.10008.1.2.1" or "PixelData" not in file:
        return None
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    file.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["CT_small.dcm", "examples_palette.dcm", "SC_rgb_small_odd.dcm"])
def test_deflated_it_is_the_same(name: str) -> None:
    path = file_of_pydicom(name)
    data: Any = resaved(path)
    plain = read(path.read_bytes())
    assert np.array_equal(np.asarray(read(data).pixels), np.asarray(plain.pixels))
    assert read(data).levels == plain.levels
