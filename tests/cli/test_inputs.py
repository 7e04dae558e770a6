"""Nothing that the inputs hold vanishes: a row for each name, a line for what is passed over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lcam_cli.images.own_outputs import MARK
from tests.cli import job
from tests.cli.job import Ended, Lcam
from tests.conftest import ROOT

OWN = "from tests.tiny import tiny_network as net\n"
NET = ("--backbone", "own.py:net")
SMALL = (*NET, "--image-size", "32", "--batch-size", "4", "--workers", "2")
GRADCAM = (*SMALL, "--method", "gradcam")
HEIC = bytes.fromhex("0000001c667479706865696300000000")
JXL = b"\0\0\0\x0cJXL \r\n\x87\n"

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 6)
    return tmp_path


def warnings(ended: Ended) -> list[str]:
    return [line for line in ended.err.splitlines() if line.startswith("warning: ")]


def rows(maps: str = "maps.h5") -> list[str]:
    with h5py.File(maps) as file:
        return list(file["path"].asstr()[:])


def test_a_folder_that_has_been_on_a_phone_and_a_mac(folder: Path, lcam: Lcam) -> None:
    photos = Path("photos")
    for name in ("IMG_1.JXL", "._000.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "labels.csv"):
        (photos / name).write_bytes(JXL if name.endswith("JXL") else b"\0\5\x16\7 Mac OS X")
    shutil.copy(photos / "005.jpg", photos / "no_extension")
    told = (
        "warning: 1 file without an extension, 1 .jxl in photos are not read (convert other "
        "formats to PNG; for files without an image's extension, pass the files themselves)"
    )
    Path("labels.txt").write_text("".join(f"00{k}.jpg {k % 4}\n" for k in range(6)))
    for words in (
        ("explain", "photos", *GRADCAM),
        ("compare", "photos", *SMALL, "--methods", "gradcam"),
        ("diagnose", "photos", *GRADCAM, "--labels", "labels.txt"),
        ("train", "photos", *SMALL, "--epochs", "1"),
    ):
        done = lcam(*words)
        assert done.code == 0, done.err
        assert warnings(done)[0] == told
        assert [line for line in warnings(done) if "not read" in line] == [told]
    assert len(rows()) == 6
    assert lcam("explain", "photos", *GRADCAM, "--overwrite", "--quiet").err == ""


def test_a_file_that_is_named_says_what_it_is(folder: Path, lcam: Lcam) -> None:
    """Phones' HEIC is often called .jpg."""
    Path("phone.jpg").write_bytes(HEIC)
    Path("a.nii.gz").write_bytes(b"x")
    Path("scan").write_bytes(bytes(128) + b"DICM" + bytes(300))
    Path("c.jpg").write_bytes(b"no picture")
    done = lcam("explain", "photos/000.jpg", "phone.jpg", "a.nii.gz", "scan", "c.jpg", *GRADCAM)
    assert done.code == 3
    assert [line.removeprefix("warning: skipped ") for line in warnings(done)[:4]] == [
        "phone.jpg: truncated or damaged HEIC",
        "a.nii.gz: .nii.gz is not read: export the slices of volumes as PNG or TIFF",
        "scan: not DICOM, or damaged at its start",
        "c.jpg: not an image, or damaged at its start",
    ]


def test_a_tar_tells_too(folder: Path, lcam: Lcam) -> None:
    Path("x.jxl").write_bytes(JXL)
    with tarfile.open("shard.tar", "w") as tar:
        tar.add("photos/000.jpg", "a.jpg")
        tar.add("photos/000.jpg", "a")
        tar.add("x.jxl", "b.jxl")
        for label in ("a.cls", "a.json", "a.txt", "__MACOSX/a.jpg", "._a.jpg"):
            tar.add("own.py", label)
    done = lcam("explain", "shard.tar", *GRADCAM)
    assert done.code == 0, done.err
    assert rows() == ["shard.tar/a.jpg"]
    assert warnings(done)[0].startswith(
        "warning: 1 file without an extension, 1 .jxl in shard.tar are not read ("
    )


def test_a_picture_of_two_names_is_a_row_a_name_of_each_class(folder: Path, lcam: Lcam) -> None:
    for k, name in enumerate(("cat", "dog")):
        Path("set", name).mkdir(parents=True)
        Path("set", name, "both.jpg").symlink_to(folder / "photos" / "000.jpg")
        Path("set", name, "hard.jpg").hardlink_to(folder / "photos" / "001.jpg")
        shutil.copy(f"photos/00{k + 2}.jpg", Path("set", name, "own.jpg"))
    done = lcam("explain", "set", *GRADCAM, "--overlays", "o", "--map-dtype", "float32")
    assert done.code == 0, done.err
    names = ["cat/both.jpg", "cat/hard.jpg", "cat/own.jpg"]
    names += [name.replace("cat", "dog") for name in names]
    assert rows() == names
    assert warnings(done) == []
    with h5py.File("maps.h5") as file:
        saliency = file["saliency"][:]
    np.testing.assert_array_equal(saliency[0], saliency[3])
    assert len(list(Path("o").rglob("*.png"))) == 6
    # Each name has its own label.
    Path("labels.txt").write_text(
        "".join(f"{name} {name.startswith('dog')}\n" for name in names)
        .replace("True", "1")
        .replace("False", "0")
    )
    done = lcam("evaluate", *NET, "--labels", "labels.txt", "--format", "json")
    assert done.code == 0, done.err
    # Going on, shards and samples count the same rows.
    assert (
        "nothing to do"
        in lcam(
            "explain", "set", *GRADCAM, "--map-dtype", "float32", "--resume", "--overlays", "o"
        ).err
    )
    for shard in ("0/2", "1/2"):
        assert lcam("explain", "set", *GRADCAM, "--out", "s.h5", "--shard", shard).code == 0
    assert lcam("merge", "s.h5", "s.0-of-2.h5", "s.1-of-2.h5").code == 0
    assert rows("s.h5") == names
    assert lcam("explain", "set", *GRADCAM, "--max-images", "5", "--out", "m.h5").out.startswith(
        "5 "
    )


def test_a_file_of_0_1_0_that_lacks_second_names_says_so(folder: Path, lcam: Lcam) -> None:
    """That version left them out; a file without links goes on as it was."""
    assert lcam("explain", "photos", *GRADCAM).code == 0  # what it would have left
    Path("photos/000b.jpg").symlink_to("000.jpg")
    for change in (lambda _: None, _reopen):
        change("maps.h5")
        done = lcam("explain", "photos", *GRADCAM, "--resume")
        assert done.code == 2
        assert "000b.jpg" in done.err
        assert "(lcam 0.1.0 skipped an image's second name" in done.err
    Path("photos/000b.jpg").unlink()
    done = lcam("explain", "photos", *GRADCAM, "--resume")
    assert done.code == 0, done.err
    assert len(rows()) == 6


def _reopen(maps: str) -> None:
    with h5py.File(maps, "r+") as file:
        file.attrs.modify("complete", np.bool_(False))


def test_paths_named_twice_and_links_to_folders(folder: Path, lcam: Lcam) -> None:
    Path("photos/more").symlink_to(folder / "elsewhere")
    Path("elsewhere").mkdir()
    shutil.copy("photos/000.jpg", "elsewhere")
    done = lcam("explain", "photos", "photos/000.jpg", "./photos/001.jpg", *GRADCAM)
    assert done.code == 0, done.err
    assert warnings(done) == [
        "warning: 2 paths were named twice: each path counts once",
        "warning: skipped 1 link to a folder: photos/more (to follow a link, name the link itself)",
    ]
    assert len(rows()) == 6


def test_what_lcam_wrote_among_the_pictures_is_told_and_passed_over(
    folder: Path, lcam: Lcam
) -> None:
    """All that the commands leave in the folder of images, and what the next one makes of it."""
    shutil.copy("photos/000.jpg", "photos/frame.0001.png")  # the user's, whatever its name
    for words in (
        ("explain", "photos", *GRADCAM, "--overlays", "photos/drawn"),
        ("explain", "photos", *GRADCAM, "--out", "photos/pngs", "--overlay-format", "jpg"),
        ("evaluate", *NET, "--report", "photos/report"),
        (
            *("compare", "photos", *SMALL, "--methods", "gradcam", "--figure"),
            *("photos/fig.png", "--report", "photos/compared"),
        ),
        ("train", "photos", *SMALL, "--epochs", "1", "--out", "photos/runs/net-img"),
    ):
        done = lcam(*words)
        assert done.code == 0, done.err
    shutil.copy("photos/000.jpg", "photos/drawn/mine.jpg")
    done = lcam("explain", "photos", *GRADCAM, "--out", "again.h5")
    assert done.code == 0, done.err
    assert set(rows("again.h5")) == {*rows(), "drawn/mine.jpg"}
    (line,) = warnings(done)
    told = line.removeprefix("warning: skipped lcam's own images: ").split(", ")
    assert sorted(told) == [
        "1 figure in photos",
        "1 loss curve in photos/runs/net-img",
        "7 maps in photos/pngs/maps",
        "7 overlays in photos/drawn",
        "7 overlays in photos/pngs/overlays",
        "7 report images in photos/compared/lcam-files",
        "7 report images in photos/report/lcam-files",
    ]
    # The same command goes on, though its outputs lie among its inputs.
    Path("photos/drawn/mine.jpg").unlink()
    done = lcam(
        "explain", "photos", *GRADCAM, "--out", "photos/pngs", "--resume", "--overlay-format", "jpg"
    )
    assert done.code == 0, done.err
    assert "nothing to do" in done.err


def test_figures_elsewhere_leave_no_mark(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", *SMALL, "--methods", "gradcam", "--figure", "results/fig.png")
    assert lcam(*words).code == 0
    assert not list(Path("results").glob(MARK))
    # An overlay is an image like any other where it is named.
    assert lcam("explain", "photos", *GRADCAM, "--overlays", "o").code == 0
    overlay = next(Path("o").rglob("*.png"))
    assert lcam("explain", overlay, *GRADCAM, "--out", "one.h5").out == "1 map in one.h5\n"


PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], check=False).returncode
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="it counts in other units")
@pytest.mark.parametrize("extension", ["png", "webp"])
def test_an_overlay_of_a_large_picture_takes_few_bytes_a_pixel(
    folder: Path, extension: str
) -> None:
    """The most that any of the processes holds, beyond what it holds for small images."""
    side = 5000
    cells = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Path("large").mkdir()
    large = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
    large.save("large/a.jpg")
    peaks = []
    for pictures in ("photos", "large"):
        words = [sys.executable, "-c", PEAK, sys.executable, "-m", "lcam_cli", "explain", pictures]
        words += [*GRADCAM, "--out", f"{pictures}.h5", "--overlays", f"o-{pictures}"]
        done = subprocess.run(
            [*words, "--overlay-format", extension],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert (peaks[1] - peaks[0]) / side**2 <= 12
