"""What is built for release holds all that the program needs, and runs away from its source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lcam_cli import __version__
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True)
    return folder


def test_one_version_everywhere() -> None:
    """The newest release of the changelog, the citation, and the program."""
    changes = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", changes, re.M)
    cited = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert [released[0], *cited] == [__version__] * 2


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("lcam_cli/")}
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "lcam_cli").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == ours


@pytest.mark.slow
def test_the_sdist_has_what_a_packager_wants(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "docs/index.md"}
    assert wanted <= names
    assert "tests/conftest.py" in names


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_alone(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-P", "-m", "lcam_cli"]

    def told(*words: str) -> str:
        return subprocess.run(
            [*command, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout

    assert told("--version") == f"lcam {__version__}\n"
    demo = told("demo", "here")
    assert "lcam-img" in demo
    for measure in ("pointing", "energy", "iou"):
        line = next(line for line in demo.splitlines() if line.strip().startswith(measure))
        others, boats = map(float, line.split()[-2:])
        assert others > boats, "the boats' maps lie on the water"
    assert (tmp_path / "here" / "overview.png").is_file()
