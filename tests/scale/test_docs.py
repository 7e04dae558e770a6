"""The scripts of docs/scale.md do what they say, with stand-ins for Slurm and Kubernetes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lcam_cli.maps.hdf5.reader import MapsFile
from tests.conftest import ROOT
from tests.tiny import write_pictures

TOML = """
[explain]
backbone = "own.py:net"
weights = "none"
image-size = 32
method = "gradcam"
batch-size = 4
device = "cpu"
workers = 1
"""
STAND_INS = {
    "srun": 'exec "$@"',
    "scontrol": "echo 127.0.0.1",
    "lcam": f'exec "{sys.executable}" -m lcam_cli "$@"',
    "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
}


def script(name: str) -> str:
    text = (ROOT / "docs" / "scale.md").read_text()
    found = re.search(
        rf"<!-- elsewhere: tests/scale/test_docs.py, {name} -->\n```\w+\n(.*?)```", text, re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    (tmp_path / "lcam.toml").write_text(TOML)
    write_pictures(tmp_path / "photos", 10)
    (tmp_path / "photos" / "003-bad.jpg").write_text("no picture")
    (tmp_path / "bin").mkdir()
    for name, line in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def bash(folder: Path, text: str, **variables: str) -> int:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **variables}
    done = subprocess.run(["bash", "-c", text], cwd=folder, env=env, check=False)
    return done.returncode


def rows(maps: Path) -> int:
    with MapsFile(maps) as file:
        assert file.complete
        return len(file)


@pytest.mark.slow
def test_the_array_and_its_merge(folder: Path) -> None:
    count = {"SLURM_ARRAY_TASK_COUNT": "2"}
    text = script("sbatch array")
    for task in range(2):
        assert bash(folder, text, SLURM_ARRAY_TASK_ID=str(task), **count) == 0
    assert bash(folder, script("sbatch merge").replace("of-16", "of-2")) == 0
    assert rows(folder / "maps.h5") == 10


@pytest.mark.slow
def test_the_one_run(folder: Path) -> None:
    slurm = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n"}
    (folder / "photos" / "003-bad.jpg").unlink()  # torchrun makes a 1 of our 3
    code = bash(folder, script("sbatch torchrun"), SLURM_GPUS_ON_NODE="2", **slurm)
    assert code == 0
    assert rows(folder / "maps.h5") == 10


@pytest.mark.slow
def test_the_pods_of_the_job(folder: Path) -> None:
    found = re.search(r"args:\n +- >-\n((?: {14}.*\n)+)", script("kubernetes"))
    assert found is not None
    line = " ".join(found[1].split()).replace("/8", "/2")
    for index in range(2):
        assert bash(folder, line, JOB_COMPLETION_INDEX=str(index)) == 0
    assert len(list(folder.glob("maps.*-of-2.h5"))) == 2
