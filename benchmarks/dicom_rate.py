"""A DICOM image from file to the network's view, over what its parts take by themselves.

    python benchmarks/dicom_rate.py

The parts, with nothing around them: pydicom reading the file and decoding one frame, the window as
NumPy does it, and Pillow's resizing of what comes of that. Both sides read the same files in turn,
in one process, and are measured in the processor's time, so that other work on the machine counts
for neither. The ratio is parts / lcam: 1 is all that the parts allow.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import compress, pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from lcam_cli.images.picture import ReadOptions
from lcam_cli.images.preprocess import Preprocess, center_view
from lcam_cli.images.read import MAX_PIXELS, read_pixels

SEEN = Preprocess().with_channels(1)
CENTER, WIDTH = 40.0, 400.0


def slice_of(side: int, syntax: str, **elements: object) -> Dataset:
    """A smooth slice with noise, in Hounsfield units, as a CT writes it."""
    y, x = np.mgrid[:side, :side] / side
    noise = np.random.default_rng(0).normal(0, 12, (side, side))
    values = 1024 + 800 * np.exp(-20 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)) - 900 * (x < 0.1) + noise
    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    file.Rows = file.Columns = side
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.RescaleSlope, file.RescaleIntercept = "1", "-1024"
    file.WindowCenter, file.WindowWidth = str(CENTER), str(WIDTH)
    for name, value in elements.items():
        setattr(file, name, value)
    file.PixelData = values.astype(np.int16).tobytes()
    file["PixelData"].VR = "OW"
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    if syntax != ExplicitVRLittleEndian:
        plugin = "pydicom" if syntax == RLELossless else "pylibjpeg"
        compress(file, UID(syntax), encoding_plugin=plugin, generate_instance_uid=False)
    return file


def files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """What is measured, and by which name."""
    for name, side, syntax, elements in (
        ("CT 512², uncompressed", 512, ExplicitVRLittleEndian, {}),
        ("CT 512², padded", 512, ExplicitVRLittleEndian, {"PixelPaddingValue": 0}),
        ("CT 512², RLE", 512, RLELossless, {}),
        ("CT 512², JPEG 2000", 512, JPEG2000Lossless, {}),
        ("X-ray 2048², uncompressed", 2048, ExplicitVRLittleEndian, {}),
    ):
        path = folder / f"{len(list(folder.iterdir()))}.dcm"
        slice_of(side, syntax, **elements).save_as(path, enforce_file_format=True)
        yield name, path
    bundled = Path(pydicom.data.__file__).parent / "test_files"
    for name, file in (
        ("ultrasound 320×240, JPEG, of 30 frames", "examples_ybr_color.dcm"),
        ("ultrasound 800×350, palette", "examples_palette.dcm"),
    ):
        yield name, Path(shutil.copy(bundled / file, folder))


def parts(path: Path) -> NDArray[np.float32]:
    """Decode, window and resize, each as its library does it."""
    file = pydicom.dcmread(path)
    values = pixel_array(file, index=0)
    if file.PhotometricInterpretation == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, file)
        values = (values >> 8).astype(np.uint8)
    if values.ndim == 3:
        shown = Image.fromarray(values).convert("L")
    else:
        grey = values.astype(np.float32)
        grey += np.float32(float(file.RescaleIntercept) - (CENTER - 0.5 - (WIDTH - 1) / 2))
        grey /= np.float32(WIDTH - 1)
        shown = Image.fromarray(np.clip(grey, 0, 1, out=grey))
    width, height = shown.size
    scale = SEEN.resize / min(width, height)  # type: ignore[operator]
    shown = shown.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = ((side - 224) // 2 for side in shown.size)
    return np.asarray(shown.crop((left, top, left + 224, top + 224)))


def ours(path: Path) -> NDArray[np.float32]:
    pixels, _ = read_pixels(str(path), ReadOptions(MAX_PIXELS), channels=1)
    return center_view(pixels, SEEN)[0]


def measured(one: Callable[[Path], object], path: Path, pictures: int) -> float:
    """Processor seconds an image. The file changes its time each time, so no header is kept."""
    begun = time.process_time()
    for number in range(pictures):
        os.utime(path, ns=(number, time.time_ns()))
        one(path)
    return (time.process_time() - begun) / pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pictures", type=int, default=10, help="of each kind a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = list(files_in(Path(folder)))
        for name, path in files:
            parts(path), ours(path)
            pairs = [
                (
                    measured(parts, path, arguments.pictures),
                    measured(ours, path, arguments.pictures),
                )
                for _ in range(arguments.rounds)
            ]
            ratio = statistics.median(apart / together for apart, together in pairs)
            of_parts, of_lcam = (
                1e3 * statistics.median(column) for column in zip(*pairs, strict=True)
            )
            print(f"{name:40} parts {of_parts:7.2f} ms  lcam {of_lcam:7.2f} ms  ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
