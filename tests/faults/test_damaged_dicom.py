"""Damaged DICOM files: each frame is explained or listed with a reason; memory stays bounded."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.faults.counts import count
from tests.faults.explained import explain_damaged
from tests.faults.many import Commands
from tests.images.dicom_files import TEST_FILES, dicom, item

COUNT = count(80, 500)
SIDES = (64, 64)  # of many of the files: what lies about sizes looks for these numbers
NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(6, 3))
"""


def good_files() -> list[bytes]:
    """Every transfer syntax that is read, every kind of pixel, and those with windows of frames."""
    names = (
        *("CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit"),
        *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_dcmtk"),
        *("SC_rgb_jpeg_gdcm", "SC_rgb_rle_2frame", "SC_rgb_jls_lossy_line", "rtdose", "rtdose_rle"),
        *("SC_ybr_full_422_uncompressed", "JPGExtended", "image_dfl", "liver_1frame"),
    )
    blobs = [(TEST_FILES / f"{name}.dcm").read_bytes() for name in names]
    film = np.random.default_rng(0).integers(0, 4096, (3, *SIDES)).astype(np.uint16)
    windows = [
        item(FrameVOILUTSequence=[item(WindowCenter=str(center), WindowWidth="500")])
        for center in (300, 900, 2000)
    ]
    blobs.append(dicom(film, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=windows))
    palette = pydicom.dcmread(TEST_FILES / "examples_palette.dcm")
    palette.Rows = palette.Columns = 64
    palette.PixelData = palette.PixelData[: 64 * 64]
    palette.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    palette.save_as(buffer)
    return [*blobs, buffer.getvalue()]


@pytest.mark.slow
def test_damaged_dicom_is_explained_or_listed(tmp_path: Path, lcam: Commands) -> None:
    (tmp_path / "own.py").write_text(NETWORK)
    found = explain_damaged(
        *(tmp_path, lcam, good_files(), COUNT, SIDES),
        lambda rng: rng.choice((".dcm", ".dcm", ".jpg", "")),
    )
    # Those without an extension whose first bytes are damaged are no images any more.
    files = {p.name for p in (tmp_path / "bad").iterdir() if p.suffix}
    assert files <= {re.sub("#[0-9]{4}$", "", path) for path in found.explained + found.listed}
