"""The same run twice leaves the same files, with the modes that umask gives."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open

from lcam_cli.engine.identity import Identity
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.maps.atomic import write_atomically
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import AttentionSettings, load_attention, save_attention
from lcam_cli.training.log import TrainingLog, read_log
from tests.cli import job
from tests.cli.job import Lcam

lcam = job.lcam

NET = ("--backbone", "own.py:net", "--weights", "none", "--device", "cpu", "--workers", "2")
SMALL = (*NET, "--image-size", "32", "--batch-size", "4")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all files and folders below."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            found[str(path.relative_to(folder))] = stat.S_IMODE(path.stat().st_mode)
    return found


def test_the_same_attention_is_the_same_bytes_and_still_a_safetensors_file(tmp_path: Path) -> None:
    settings = AttentionSettings(
        Identity("net", "none:seed=0", "3"), ["ä", "b"], Preprocess(), {"mode": "img", "lr": 0.1}
    )
    attention = Attention(torch.arange(6.0).reshape(2, 3), torch.ones(2))
    # The library's own order is another one nearly every time.
    files = [tmp_path / f"{k}.safetensors" for k in range(8)]
    for file in files:
        save_attention(file, attention, settings)
    assert len({file.read_bytes() for file in files}) == 1
    with safe_open(files[0], "pt") as opened:
        torch.testing.assert_close(opened.get_tensor("weight"), attention.W)
        assert opened.metadata()["format"] == "lcam-attention/1"
    loaded = load_attention(files[0])
    assert loaded.settings == settings
    # Tensors begin at a multiple of 8 bytes, as the format wants it.
    assert int.from_bytes(files[0].read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_every_file_has_the_mode_that_umask_gives(
    mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam
) -> None:
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 8)
    nets = ("--backbone", "own.py:net")
    shard = ("explain", "photos", *SMALL, "--method", "gradcam", "--out", "new/m.h5", "--shard")
    with umask(mask):
        for words in (
            ("train", "photos", *SMALL, "--epochs", "2", "--out", "new/run"),
            ("explain", "photos", *SMALL, "--method", "gradcam", "--out", "new/maps.h5"),
            ("explain", "photos", *SMALL, "--method", "gradcam", "--out", "new/pngs"),
            (*shard, "0/2"),
            (*shard, "1/2"),
            ("merge", "new/merged.h5", "new/m.0-of-2.h5", "new/m.1-of-2.h5"),
            ("evaluate", "new/maps.h5", *nets, "--out", "new/scores.json", "--format", "json"),
            ("evaluate", "new/maps.h5", *nets, "--report", "new/report"),
            (
                *("compare", "photos", *SMALL, "--methods", "gradcam", "--out", "new/all.h5"),
                *("--state", "new/state", "--figure", "new/figure.png"),
            ),
        ):
            done = lcam(*words)
            assert done.code == 0, done.err
    found = modes(tmp_path / "new")
    assert len(found) > 60
    wrong = {
        path: oct(mode)
        for path, mode in found.items()
        if mode != (0o777 if (tmp_path / "new" / path).is_dir() else 0o666) & ~mask
    }
    assert wrong == {}


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    with umask(0o022):
        for name, mode in (("shared", 0o664), ("private", 0o600), ("read-only", 0o444)):
            target = tmp_path / name
            target.write_bytes(b"old")
            target.chmod(mode)
            write_atomically(target, b"n", b"ew")
            assert target.read_bytes() == b"new"
            assert stat.S_IMODE(target.stat().st_mode) == mode | 0o600
        log = tmp_path / "log.csv"
        TrainingLog(log).close()
        log.chmod(0o660)
        TrainingLog(log, resume_from=1).close()
        assert stat.S_IMODE(log.stat().st_mode) == 0o660


def test_the_same_commands_leave_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lcam: Lcam
) -> None:
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 9)
    for mode in ("img", "bla", "tame"):
        layer = ("--layer", "1", "--layer", "3") if mode == "tame" else ()
        runs = [f"{mode}-{k}" for k in range(2)]
        for run in runs:
            words = ("--mode", mode, "--epochs", "2", "--out", run, *layer)
            done = lcam("train", "photos", *SMALL, *words)
            assert done.code == 0, done.err
        one, other = (Path(run, "attention.safetensors").read_bytes() for run in runs)
        assert one == other, mode
        logs = [read_log(Path(run, "log.csv")) for run in runs]
        for row in (*logs[0], *logs[1]):
            assert row.pop("images_per_second") > 0
        assert logs[0] == logs[1] != []
        one, other = (Path(run, "losses.png").read_bytes() for run in runs)
        assert one == other, mode
    for k in range(2):
        words = ("--method", "gradcam", "--out", f"maps{k}.h5", "--overlays", f"o{k}")
        assert lcam("explain", "photos", *SMALL, *words).code == 0
        assert lcam("explain", "photos", *SMALL, *words[:2], "--out", f"png{k}").code == 0
    with h5py.File("maps0.h5") as one_file, h5py.File("maps1.h5") as other_file:
        differ = {"created", "file_id"}
        assert {k for k in one_file.attrs if one_file.attrs[k] != other_file.attrs[k]} <= differ
        names: list[str] = []
        one_file.visit(names.append)
        for name in names:
            if isinstance(one_file[name], h5py.Dataset):
                np.testing.assert_array_equal(one_file[name][:], other_file[name][:])
    for a, b in (("o0", "o1"), ("png0/maps", "png1/maps"), ("png0/overlays", "png1/overlays")):
        pictures = sorted(path.relative_to(a) for path in Path(a).rglob("*.png"))
        assert len(pictures) == 9
        for path in pictures:
            assert (Path(a) / path).read_bytes() == (Path(b) / path).read_bytes()
        if a.endswith("maps"):
            assert Path(a, "maps.jsonl").read_bytes() == Path(b, "maps.jsonl").read_bytes()
