"""Memory that runs out when the test says so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.faults.many import Commands
from tests.tiny import write_pictures

# As torch raises it on the CPU; where the file "most" is, for more images at once than it says.
OWN = """
from pathlib import Path
from torch import nn
from tests.tiny import tiny_network

class Starved(nn.Module):
    calls = 0

    def forward(self, x):
        limit = Path("most")
        if limit.exists():
            self.calls += 1
            after, most = map(int, limit.read_text().split())
            if self.calls > after and len(x) > most:
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: "
                    "can't allocate memory: you tried to allocate 9999999999 bytes."
                )
        return x

def net():
    return nn.Sequential(Starved(), *tiny_network())
"""
WORDS = ["--backbone", "own.py:net", "--weights", "none", "--image-size", "32", "--device", "cpu"]
WORDS += ["--layer", "4", "--workers", "2", "--batch-size", "4", "--map-dtype", "float32"]
# Without its file the network can be traced, so that the place of its cells is known; else not.
EXPLAIN = ["explain", "photos", *WORDS, "--method", "gradcam", "--no-align"]
PICTURES = 42


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", PICTURES)
    return tmp_path


def test_a_smaller_batch_goes_on(folder: Path, lcam: Commands) -> None:
    (folder / "most").write_text("0 2")
    ended = lcam(folder, EXPLAIN)
    assert ended.code == 0, ended.err
    assert "out of memory on a batch of 4: continuing with 2" in ended.err
    (folder / "most").unlink()
    assert lcam(folder, [*EXPLAIN, "--out", "whole.h5"]).code == 0
    with h5py.File(folder / "maps.h5") as file, h5py.File(folder / "whole.h5") as whole:
        assert len(file["saliency"]) == PICTURES
        np.testing.assert_allclose(file["saliency"][:], whole["saliency"][:], atol=1e-5)


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
def test_not_even_one_picture_fits(folder: Path, lcam: Commands, out: str) -> None:
    (folder / "most").write_text("5 0")
    ended = lcam(folder, [*EXPLAIN, "--out", out])
    assert ended.code == 2
    error = ended.err[ended.err.index("error: ") :].splitlines()
    assert len(error) == 2, ended.err
    assert error[0].startswith("error: out of memory (")
    assert "--resume" in error[1]
    (folder / "most").unlink()
    resumed = lcam(folder, [*EXPLAIN, "--out", out, "--resume"])
    assert resumed.code == 0, resumed.err
    assert lcam(folder, [*EXPLAIN, "--out", f"whole-{out}"]).code == 0
    if out == "pngs":
        one, other = (folder / name / "maps" / "maps.jsonl" for name in ("pngs", "whole-pngs"))
        assert one.read_bytes() == other.read_bytes()
        return
    with h5py.File(folder / out) as file, h5py.File(folder / f"whole-{out}") as whole:
        np.testing.assert_array_equal(file["saliency"][:], whole["saliency"][:])
