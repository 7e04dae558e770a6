"""The page "Add an image format", carried out: as a package with an entry point, and in lcam."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.maps.hdf5.reader import MapsFile
from tests.conftest import ROOT
from tests.docs.blocks import blocks_of
from tests.packages import write_package

PAGE = ROOT / "docs" / "add-a-picture-format.md"
BLOCKS = {block.note.partition("file: ")[2] or block.language: block for block in blocks_of(PAGE)}
MODULE = BLOCKS["lcam_fits.py"].code

TYPES = {8: "u1", 16: ">i2", -32: ">f4"}
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)


def write_fits(path: Path, values: np.ndarray, bits: int, **cards: float) -> None:
    """Write a file by the standard: cards of 80 letters in blocks of 2880 bytes, rows upwards."""
    height, width = values.shape
    header = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height}
    lines = [f"{key:<8}= {value:>20} / a comment" for key, value in (header | cards).items()]
    text = "".join(line.ljust(80) for line in [*lines, "END"])
    data = values[::-1].astype(TYPES[bits]).tobytes()
    path.write_bytes(text.ljust(2880).encode() + data + bytes(-len(data) % 2880))


def run(folder: Path, path: list[Path], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_package_brings_a_format_to_the_command(tmp_path: Path) -> None:
    points = tomllib.loads(BLOCKS["pyproject.toml"].code)["project"]["entry-points"]
    site = tmp_path / "site-packages"
    write_package(site, "lcam_fits", MODULE, "lcam.formats", points["lcam.formats"])
    write_package(
        site,
        "lcam_broken",
        "raise OSError('no\\nlibrary')",
        "lcam.formats",
        {"broken": "lcam_broken:Odd"},
    )
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    scans = tmp_path / "scans"
    scans.mkdir()
    Image.fromarray(PIXELS).save(scans / "a.png")
    write_fits(scans / "b.fits", PIXELS / 255, -32)
    write_fits(scans / "c.fits", PIXELS, 8, NAXIS1=10**6, NAXIS2=10**6)
    shutil.copy(scans / "a.png", scans / "d.fits")  # names may lie
    write_fits(scans / "e.fits", PIXELS * 257.0 - 32768, 16, BZERO=32768)
    (scans / "e.fits").rename(scans / "e.jpg")

    words = "-m lcam_cli explain scans --backbone own.py:net --image-size 32 --method gradcam"
    words += " --map-dtype float32 --device cpu --workers 2"
    done = run(tmp_path, [site, ROOT], *words.split())
    assert done.returncode == 3, done.stderr
    assert "skipped scans/c.fits: too many pixels: 1000000 × 1000000" in done.stderr
    (broken,) = [line for line in done.stderr.splitlines() if "'broken'" in line]
    assert "does not load: OSError: no library (" in broken, "one line, which names it"
    assert broken.endswith("lcam_broken.py, line 1)")
    with MapsFile(tmp_path / "maps.h5") as maps:
        rows = maps.rows(0, 9)
    assert rows.paths == ["a.png", "b.fits", "d.fits", "e.jpg"]
    for saliency in rows.saliency[1:]:
        # Of 8 bits the image is rounded once more where it is resized.
        np.testing.assert_allclose(saliency, rows.saliency[0], atol=0.06)


def test_a_line_in_the_registry_does_too(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lcam_cli", tmp_path / "lcam_cli")
    registry = tmp_path / "lcam_cli" / "images" / "formats.py"
    code = registry.read_text()
    for hunk in BLOCKS["diff"].code.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        assert code.count(old) == 1, hunk
        code = code.replace(old, "".join(line[1:] for line in lines if line[0] != "-"))
    registry.write_text(code)
    registry.with_name("fits.py").write_text(MODULE)
    write_fits(tmp_path / "a.fits", PIXELS, 8)
    write_fits(tmp_path / "deep.fits", np.full((4, 4), 4095), 16)
    np.save(tmp_path / "a.npy", PIXELS)
    done = run(
        tmp_path,
        [tmp_path],
        "-c",
        "import numpy\n"
        "from lcam_cli.images.find import find_images\n"
        "from lcam_cli.images.picture import ReadOptions\n"
        "from lcam_cli.images.read import read_picture, read_pixels\n"
        "assert find_images(['.']).paths == ['./a.fits', './a.npy', './deep.fits']\n"
        "assert (numpy.array(read_picture('a.fits'))[..., 0] == numpy.load('a.npy')).all()\n"
        "pixels, levels = read_pixels('deep.fits', ReadOptions(16))\n"
        "assert levels.high == 4095 and pixels.as_rgb()[0, 0].tolist() == [16, 16, 16]\n",
    )
    assert done.returncode == 0, done.stderr
