"""DICOM files made on the spot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

from lcam_cli.errors import BadImageError
from lcam_cli.images.channels import pixels_of
from lcam_cli.images.dicom import DicomFormat
from lcam_cli.images.picture import Picture, ReadOptions
from lcam_cli.images.preprocess import Window

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
MAX_PIXELS = 10**6


def file_of_pydicom(name: str) -> Path:
    """One of pydicom's own test files; older versions have fewer of them."""
    if not (TEST_FILES / name).exists():
        pytest.skip(f"this pydicom does not bring {name}")
    return TEST_FILES / name


def dataset(values: NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """A data set with an image, (H, W), (H, W, 3) or with ``NumberOfFrames`` (F, …)."""
    file = Dataset()
    file.SOPClassUID = SECONDARY_CAPTURE
    file.SOPInstanceUID = generate_uid()
    if values is not None:
        frames = "NumberOfFrames" in elements
        file.Rows, file.Columns = values.shape[frames : frames + 2]
        colour = values.ndim == frames + 3
        file.SamplesPerPixel = 3 if colour else 1
        file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            file.PlanarConfiguration = 0
        file.BitsAllocated = file.BitsStored = 8 * values.dtype.itemsize
        if values.dtype.kind != "f":
            file.HighBit = file.BitsStored - 1
            file.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in elements.items():
        if value is None:
            delattr(file, keyword)
        else:
            setattr(file, keyword, value)
    if values is not None and not {"PixelData"} & set(elements):
        name = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(
            values.dtype.str[1:], "PixelData"
        )
        data = values.tobytes()
        setattr(file, name, data + b"\0" * (len(data) % 2))
        if name == "PixelData":
            file["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    return file


def written(file: Dataset, syntax: str = ExplicitVRLittleEndian, *, preamble: bool = True) -> bytes:
    """The bytes of a file with a data set."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = file.get("SOPClassUID", SECONDARY_CAPTURE)
    meta.MediaStorageSOPInstanceUID = file.get("SOPInstanceUID", "1.2.3")
    file.file_meta = meta
    buffer = io.BytesIO()
    if preamble:
        pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    else:
        del file.file_meta
        pydicom.dcmwrite(buffer, file, implicit_vr=UID(syntax).is_implicit_VR, little_endian=True)
    return buffer.getvalue()


def dicom(values: NDArray[Any], *, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """The bytes of a file with these values and elements; a None takes an element away."""
    swapped = values.astype(values.dtype.newbyteorder(">"))
    return written(
        dataset(swapped if syntax == ExplicitVRBigEndian else values, **elements), syntax
    )


def compressed(values: NDArray[Any], frames: list[bytes], syntax: str, **elements: Any) -> bytes:
    """The bytes of a file whose frames are compressed already."""
    file = dataset(values, PixelData=encapsulate(frames), **elements)
    file["PixelData"].VR = "OB"
    file["PixelData"].is_undefined_length = True
    return written(file, syntax)


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def read(data: bytes, *, max_pixels: int = MAX_PIXELS, **options: Any) -> Picture:
    """The image that the format makes of a file's bytes."""
    return DicomFormat().read(io.BytesIO(data), ReadOptions(max_pixels, **options))


def reason(data: bytes, **options: Any) -> str:
    """Why a file's bytes are refused."""
    with pytest.raises(BadImageError) as error:
        read(data, **options)
    why = error.value.reason
    assert "\n" not in why
    assert 0 < len(why) < 140
    return why


def shown(picture: Picture, window: Window = "auto") -> NDArray[np.float64]:
    """What the network sees of an image, in 0…1: (H, W), or (H, W, 3) of colours."""
    colour = np.asarray(picture.pixels).ndim == 3
    pixels, _ = pixels_of(picture, 3 if colour else 1, window)
    view = pixels.changed(lambda plane: plane.crop((0, 0, *pixels.size)))
    values = view / 255.0 if view.dtype == np.uint8 else view.astype(np.float64)
    return values if colour else values[..., 0]
