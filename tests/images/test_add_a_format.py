"""The page "Add a picture format", carried out: as a package with an entry point, and in lcam."""

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
MODULE = BLOCKS["lcam_npy.py"].code

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


class Bomb:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


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
    write_package(site, "lcam_npy", MODULE, "lcam.formats", points["lcam.formats"])
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
    np.save(scans / "b.npy", PIXELS)
    np.save(scans / "c.npy", np.array([[Bomb()] * 9] * 9))
    shutil.copy(scans / "a.png", scans / "d.npy")  # names may lie
    np.save(scans / "e.npy", PIXELS)
    (scans / "e.npy").rename(scans / "e.jpg")

    words = "-m lcam_cli explain scans --backbone own.py:net --image-size 32 --method gradcam"
    words += " --map-dtype float32 --device cpu --workers 2"
    done = run(tmp_path, [site, ROOT], *words.split())
    assert done.returncode == 3, done.stderr
    assert "skipped scans/c.npy: an array (9, 9) of object is no picture" in done.stderr
    assert not list(tmp_path.rglob("exploded"))
    (broken,) = [line for line in done.stderr.splitlines() if "'broken'" in line]
    assert "does not load: OSError: no library (" in broken, "one line, which names it"
    assert broken.endswith("lcam_broken.py, line 1)")
    with MapsFile(tmp_path / "maps.h5") as maps:
        rows = maps.rows(0, 9)
    assert rows.paths == ["a.png", "b.npy", "d.npy", "e.jpg"]
    for saliency in rows.saliency[1:]:
        np.testing.assert_array_equal(saliency, rows.saliency[0])


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
    registry.with_name("npy.py").write_text(MODULE)
    np.save(tmp_path / "a.npy", PIXELS)
    np.save(tmp_path / "deep.npy", np.full((4, 4), 4095, np.uint16))
    done = run(
        tmp_path,
        [tmp_path],
        "-c",
        "import numpy\n"
        "from lcam_cli.images.find import find_images\n"
        "from lcam_cli.images.read import read_picture, read_with_levels\n"
        "assert find_images(['.']).paths == ['./a.npy', './deep.npy']\n"
        "assert (numpy.array(read_picture('a.npy')) == numpy.load('a.npy')).all()\n"
        "picture, levels = read_with_levels('deep.npy')\n"
        "assert levels.high == 4095 and picture.getpixel((0, 0)) == (16, 16, 16)\n",
    )
    assert done.returncode == 0, done.stderr
