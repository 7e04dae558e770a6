"""The checkpoints of TAME's authors as ``--attention`` of the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.cli import job
from tests.cli.job import Lcam
from tests.methods.test_tame_file import LAYERS, branches, lightning
from tests.tiny import tiny_network

OWN = "from tests.tiny import tiny_network as net\n"
NET = ("--backbone", "own.py:net", "--image-size", "32")

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 3)
    lightning(
        tmp_path / "theirs.ckpt",
        branches([5, 6], 4),
        tiny_network(),
        model_name="tiny",
        layers=LAYERS,
        attention_version="TAME",
    )
    torch.save({"state_dict": branches([5, 6], 4), "epoch": 2}, tmp_path / "alone.pt")
    return tmp_path


def test_their_maps_are_explained_evaluated_and_compared(folder: Path, lcam: Lcam) -> None:
    words = ("explain", "photos", *NET, "--map-dtype", "float32")
    done = lcam(*words, "--attention", "theirs.ckpt")
    assert done.code == 0, done.err
    with h5py.File("maps.h5") as file:
        assert file.attrs["method"] == "tame"
        saliency = file["saliency"][:]
        assert saliency.shape == (3, 32, 32)
        assert saliency.max() > saliency.min()
    # A file that does not say its layers is told them, and gives the same maps.
    layers = [word for layer in LAYERS for word in ("--layer", layer)]
    done = lcam(*words, "--attention", "alone.pt", *layers, "--out", "alone.h5")
    assert done.code == 0, done.err
    with h5py.File("alone.h5") as file:
        np.testing.assert_array_equal(file["saliency"][:], saliency)
    untold = lcam(*words, "--attention", "alone.pt", "--out", "untold.h5")
    assert untold.code == 2
    assert "does not say which layers of own.py:net it reads" in untold.err
    # Evaluating makes them again from the file, where a measure needs it.
    again = ("evaluate", "maps.h5", "--attention", "theirs.ckpt", "--backbone", "own.py:net")
    scored = lcam(*again, "--metrics", "ad,sensitivity", "--nu", "100", "--format", "json")
    assert scored.code == 0, scored.err
    compared = lcam(
        *("compare", "photos", *NET, "--attention", "theirs.ckpt", "--methods", "tame,gradcam"),
        *("--nu", "100", "--format", "json"),
    )
    assert compared.code == 0, compared.err
    rows = json.loads(compared.out)["rows"]
    assert [row["method"] for row in rows] == ["tame", "gradcam", "random"]
