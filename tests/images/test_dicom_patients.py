"""Nothing that a DICOM file says of a patient reaches an output, or a message."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from tests.conftest import ROOT
from tests.images.dicom_files import TEST_FILES, compressed, dataset, dicom, item, written

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
"""
BACKBONE = ("--backbone", "network.py:net", "--weights", "none", "--device", "cpu")
EXPLAIN = (*BACKBONE, "--method", "gradcam", "--image-size", "32", "--batch-size", "8", "--debug")

SECRET = "ZQXJ"
ASSETS = ROOT / "lcam_cli" / "reports" / "html"
"""In every text of the files that are made here."""

_TEXTS = ("AE", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT")
_STANDARD = "1.2.840.10008."
# What is shorter stands in any megabyte by chance.
_SHORTEST, _SHORTEST_NUMBER = 4, 8


def texts_of(file: Dataset) -> Iterator[str]:
    """The texts of a file, in sequences and private elements too."""
    for tag in list(file.keys()):
        try:
            element = file[tag]
        except Exception:  # an element that cannot be read cannot be quoted either
            continue
        if element.VR == "SQ":
            for one in element.value or ():
                yield from texts_of(one)
        elif element.VR in _TEXTS and element.tag.group != 0x0028:
            several = element.value if isinstance(element.value, list) else [element.value]
            yield from (str(one) for one in several if one is not None)


def values_of(paths: list[Path]) -> set[str]:
    found = set()
    for path in paths:
        try:
            file = pydicom.dcmread(path, force=True)
        except Exception:
            continue
        found |= {text.strip() for text in texts_of(file)}
    return {text for text in found if _is_telling(text)}


def _is_telling(text: str) -> bool:
    is_number = not any(map(str.isalpha, text))
    if len(set(text)) < 3:  # 11111111 is in many a fraction
        return False
    return len(text) >= (_SHORTEST_NUMBER if is_number else _SHORTEST) and not text.startswith(
        _STANDARD
    )


def pydicoms_files(folder: Path) -> list[Path]:
    """All test files, under names that say nothing: some are called by their patient's number."""
    folder.mkdir()
    copies = []
    for number, path in enumerate(sorted(TEST_FILES.rglob("*"))):
        if path.is_file() and path.stat().st_size < 10**6 and path.name != "zipMR.gz":
            copies.append(folder / f"{number:03}.dcm")
            copies[-1].write_bytes(path.read_bytes())
    return copies


def secretive_files(folder: Path) -> int:
    """Files with a name wherever a reason could quote one; return how many are images."""
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    name = f"{SECRET}^JANE"
    person = {
        "PatientName": name, "PatientID": name, "PatientBirthDate": "19700101",
        "AccessionNumber": name, "InstitutionName": name, "ReferringPhysicianName": name,
        "StudyDescription": name, "ImageComments": name, "RequestAttributesSequence":
        [item(ScheduledProcedureStepDescription=name)],
    }  # fmt: skip
    good = dicom(values, **person)
    start = struct.pack("<HH2sH", 0x28, 0x10, b"US", 2)
    at = good.index(start)
    text = name.encode() + b" " * (len(name) % 2)
    frames = struct.pack("<HH2sH", 0x28, 0x08, b"IS", len(text)) + text
    wrong = struct.pack("<HH2sH", 0x28, 0x10, b"LO", len(text)) + text
    syntax = written(dataset(values, **person)).replace(
        b"1.2.840.10008.1.2.1\0", name.encode().ljust(20, b"\0"), 1
    )
    private = Dataset()
    private.private_block(0x9, name, create=True).add_new(1, "LO", name)
    other = dataset(values, **person)
    other.update(private)
    files = [
        good,
        dicom(values, **person, VOILUTFunction=name),  # with no window, nobody asks for it
        written(other),
        dicom(values, **person, WindowCenter="1", WindowWidth="2", VOILUTFunction=name),
        dicom(values, **(person | {"PhotometricInterpretation": name})),
        good[:at] + frames + good[at:],
        good[:at] + wrong + good[at + 10 :],
        syntax,
        good[: len(good) // 2],
        good[:-9],
        written(dataset(**person, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")),
        written(dataset(**(person | {"SOPClassUID": "1.2.3"}))),
        compressed(values, [name.encode() * 9], "1.2.840.10008.1.2.4.90", **person),
        dicom(
            values, **person, VOILUTSequence=[item(LUTDescriptor=[4, 0, 12], LUTExplanation=name)]
        ),
    ]
    for number, data in enumerate(files):
        (folder / f"made{number:02}.dcm").write_bytes(data)
    return 3


def contents_of(folder: Path) -> bytes:
    """All that lies in the outputs, what is packed in them too."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        found += [str(path.relative_to(folder)).encode(), path.read_bytes()]
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
                found.append(repr((picture.info, dict(picture.getexif()))).encode())
        if path.suffix == ".h5":
            found.append(_texts_of_maps(path))
    # Bytes as letters would hold every short text by chance.
    return re.sub(
        rb'(?<=[",])([A-Za-z0-9+/]{60,}={0,2})(?=")',
        lambda one: base64.b64decode(one[1]),
        b"\n".join(found),
    )


def _texts_of_maps(path: Path) -> bytes:
    found = []

    def add(name: str, one: h5py.Dataset | h5py.Group) -> None:
        found.append(f"{name} {dict(one.attrs)}")
        if isinstance(one, h5py.Dataset) and one.dtype.kind in "OS":
            found.append(repr(one[...].tolist()))

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
    return "\n".join(found).encode()


@pytest.mark.slow
def test_no_value_of_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = pydicoms_files(tmp_path / "scans")
    pictures = secretive_files(tmp_path / "scans")
    values = values_of(copies) | {SECRET, "19700101"}
    assert len(values) > 500
    assert {"CompressedSamples^CT1", "1CT1", "98.12.21"} & values
    (tmp_path / "out").mkdir()
    (tmp_path / "network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)

    def lcam(*words: str) -> None:
        assert run(lcam_app(), list(words)) in (0, 3), capfd.readouterr().err

    lcam("explain", "scans", *EXPLAIN, "--out", "out/maps.h5", "--overlays", "out/overlays")
    few = sorted(str(path) for path in (tmp_path / "scans").glob("*[05].dcm"))
    lcam("explain", *few, *EXPLAIN, "--out", "out/png", "--window", "0,2000")
    lcam("explain", *few, *EXPLAIN, "--out", "out/few.h5")
    lcam("evaluate", "out/few.h5", *BACKBONE, "--nu", "50", "--no-floor", "--format", "json",
         "--report", "out/report", "--per-image", "out/numbers.csv",
         "--out", "out/table.json")  # fmt: skip
    lcam("compare", "scans", *BACKBONE, "--methods", "gradcam,random", "--nu", "50",
         "--image-size", "32", "--max-images", "4", "--out", "out/compared.h5",
         "--figure", "out/figure.png")  # fmt: skip
    said = capfd.readouterr()
    with h5py.File(tmp_path / "out" / "maps.h5") as file:
        explained = [path.decode() for path in file["path"][:]]
        skipped = len(file["skipped/path"])
    assert sum("made" in path for path in explained) == pictures
    assert len(explained) > 100
    assert skipped > 70
    written_out = contents_of(tmp_path / "out") + said.out.encode() + said.err.encode()
    encodings = ("utf-8", "latin-1", "utf-16-le")
    leaked = {
        text for text in values for one in encodings if text.encode(one, "replace") in written_out
    }
    own = b"".join(path.read_bytes() for path in ASSETS.iterdir() if path.is_file())
    assert not {text for text in leaked if text.encode() not in own}  # "Time" is in setTimeout
