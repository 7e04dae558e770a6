"""The page on the paper's Table 1 feeds the authors' list of images to ``compare``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests import warm
from tests.conftest import ROOT
from tests.docs.blocks import blocks_of

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
# As the authors write it; with folders and tabs, as from Windows; and without an extension.
LISTS = {
    "plain": "{name}.JPEG {label}\n",
    "folders": "n0{label}/x/{name}.jpeg\t{label}\r\n\r\n",
    "bare": " {name}  {label} \n\n",
}
NAMES = [f"ILSVRC2012_val_0000000{number}" for number in (3, 1, 4, 2)]
LABELS = [2, 0, 3, 1]


def block(of: str) -> str:
    """The block of the page that makes this file."""
    (found,) = [b.code for b in blocks_of(ROOT / "docs" / "table1.md") if f"> {of}" in b.code]
    return found


def shell(code: str) -> None:
    subprocess.run(["bash", "-e", "-u", "-o", "pipefail", "-c", code], check=True)


@pytest.fixture(params=LISTS)
def lists(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for the list, in one of the ways in which it may be written."""
    monkeypatch.chdir(tmp_path)
    written = tmp_path / "L-CAM" / "datalist" / "ILSVRC" / "Evaluation_2000.txt"
    written.parent.mkdir(parents=True)
    line = LISTS[request.param]
    text = "".join(line.format(name=n, label=r) for n, r in zip(NAMES, LABELS, strict=True))
    written.write_bytes(text.encode())
    return tmp_path


def test_both_files_whatever_the_names_carry(lists: Path) -> None:
    shell(block("evaluation.txt"))
    assert Path("evaluation.txt").read_text().splitlines() == [
        f"{name}.JPEG {label}" for name, label in zip(NAMES, LABELS, strict=True)
    ]
    assert Path("images.txt").read_text().splitlines() == [f"val/{n}.JPEG" for n in NAMES]


def test_pictures_in_folders_of_their_classes(lists: Path) -> None:
    for name in [*NAMES, "ILSVRC2012_val_00000005"]:
        folder = lists / "val" / f"n{name[-1]}"
        folder.mkdir(parents=True)
        (folder / f"{name}.JPEG").touch()
    shell(block("evaluation.txt"))
    shell(block("names.txt"))
    found = Path("images.txt").read_text().splitlines()
    assert sorted(found) == sorted(f"val/n{n[-1]}/{n}.JPEG" for n in NAMES)


def test_compare_takes_the_list_and_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "val").mkdir()
    for number in range(1, 6):  # the fifth is not in the list
        picture = Image.effect_noise((40, 40), 60).convert("RGB")
        picture.save(tmp_path / "val" / f"ILSVRC2012_val_0000000{number}.JPEG", "JPEG")
    written = tmp_path / "L-CAM" / "datalist" / "ILSVRC" / "Evaluation_2000.txt"
    written.parent.mkdir(parents=True)
    written.write_text("".join(f"{name}.JPEG 0\n" for name in [*NAMES, "ILSVRC2012_val_9"]))
    shell(block("evaluation.txt"))
    commands = [b.code for b in blocks_of(ROOT / "docs" / "table1.md") if "lcam compare" in b.code]
    assert all("lcam compare - --labels evaluation.txt" in code for code in commands)
    assert all(code.count("< images.txt") == code.count("lcam compare") for code in commands)
    assert all(code.count("--no-align") == code.count("lcam compare") for code in commands)
    words = warm.words(
        *("compare", "-", "--labels", "evaluation.txt", "--methods", "gradcam", "--no-align"),
        *("--nu", "50", "--backbone", "own.py:net", "--image-size", "32", "--format", "json"),
    )
    listed = Path("images.txt").read_text()
    done = subprocess.run(words, input=listed, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "skipped val/ILSVRC2012_val_9.JPEG" in done.stderr
    result = json.loads(done.stdout)
    assert (result["images"], result["skipped"]) == (4, 1)
    assert result["accuracy"]["labelled"] == 4
    assert result["accuracy"]["top5"] == 100  # of four classes
