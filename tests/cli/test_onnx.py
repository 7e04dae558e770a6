"""ONNX classifiers through the whole job, by the real command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import h5py
import pytest

from tests import warm
from tests.cli import job
from tests.cli.job import Lcam
from tests.networks.onnx_models import (
    arrays_of,
    channels_last_model,
    conv,
    model_of,
    node,
    save,
    tiny_model,
)
from tests.tiny import tiny_network

pytest.importorskip("onnxruntime")

lcam = job.lcam
OWN = "from tests.tiny import tiny_network as net\n"
NETWORK = ("--backbone", "tiny.onnx")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 5)
    save(tiny_model(), tmp_path / "tiny.onnx")
    return tmp_path


def test_the_whole_job(folder: Path, lcam: Lcam) -> None:
    explained = lcam("explain", "photos", *NETWORK, "--method", "scorecam")
    assert explained.code == 0, explained.err
    numbers = "mean 0.485,0.456,0.406 and standard deviation 0.229,0.224,0.225, ImageNet's"
    assert f"normalised with {numbers} (--mean, --std)" in explained.err
    with h5py.File("maps.h5") as file:
        assert file.attrs["layer"] == "r2"
        assert file["saliency"].shape == (5, 32, 32)
    # The file knows its network, and finds it where it was.
    scored = lcam("evaluate", "maps.h5", "--nu", "50", "--format", "json")
    assert scored.code == 0, scored.err
    assert {row["method"] for row in json.loads(scored.out)["rows"]} == {"scorecam", "random"}
    names = sorted(path.name for path in Path("photos").iterdir())
    Path("labels.txt").write_text("".join(f"{name} {i % 4}\n" for i, name in enumerate(names)))
    diagnosed = lcam("diagnose", "photos", *NETWORK, "--method", "cam", "--labels", "labels.txt")
    assert diagnosed.code == 0, diagnosed.err
    (folder / "tiny.onnx").write_bytes(channels_last_model().SerializeToString())
    other = lcam("evaluate", "maps.h5", "--nu", "50")
    assert other.code == 2
    assert "was made with weights sha256:" in other.err


def test_compare_gives_what_it_gives_in_pytorch(folder: Path, lcam: Lcam) -> None:
    rows = []
    for network in (NETWORK, ("--backbone", "own.py:net", "--image-size", "32")):
        done = lcam(
            *("compare", "photos", *network, "--layer", "r2" if network is NETWORK else "3"),
            *("--methods", "cam,scorecam,groupcam,rise", "--rise-masks", "40", "--nu", "50"),
            *("--metrics", "insertion,deletion", "--format", "json"),
        )
        assert done.code == 0, done.err
        rows.append({row["method"]: row for row in json.loads(done.out)["rows"]})
    assert rows[0].keys() == rows[1].keys()
    for method, row in rows[0].items():
        for name, value in row.items():
            if isinstance(value, float) and "second" not in name:
                assert value == pytest.approx(rows[1][method][name], abs=0.02), (method, name)


def test_training_is_refused_with_what_works(folder: Path, lcam: Lcam) -> None:
    for mode in ("img", "fm", "bla", "amg", "tame"):
        done = lcam("train", "photos", *NETWORK, "--mode", mode)
        assert done.code == 2
        assert len(done.err.splitlines()) == 2  # refused before a run is begun
        assert not list(Path("runs").glob("*"))
        assert "needs gradients" in done.err
        assert "use cam; these methods also work: eigencam, ablationcam, " in done.err
    done = lcam("train", "photos", *NETWORK, "--mode", "bla", "--train-head")
    assert done.code == 2
    assert "needs gradients" in done.err


def test_what_cannot_be_trained_is_not_advised_to_be(folder: Path, lcam: Lcam) -> None:
    for words in (("explain", "photos"), ("compare", "photos", "--methods", "lcam")):
        done = lcam(*words, *NETWORK)
        assert done.code == 2
        assert "a trained attention needs gradients" in done.err
        assert "pass a method: use cam; these methods also work: eigencam, " in done.err
    done = lcam("explain", "photos", *NETWORK, "--method", "cam", "--channels", "1")
    assert done.code == 2
    assert "expects 3 channels, not 1\npass --channels 3, or remove it" in done.err


def test_methods_of_one_reason_are_left_out_in_one_line(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos", *NETWORK, "--methods", "all", "--rise-masks", "4")
    assert done.code == 0, done.err
    line = next(line for line in done.err.splitlines() if "skipped gradcam" in line)
    assert "skipped gradcam, gradcam++, " in line
    assert ": each needs gradients, and the logits of tiny.onnx have no gradients" in line


@pytest.mark.slow
def test_a_process_of_its_own(folder: Path) -> None:
    words = ("explain", "photos", *NETWORK, "--method", "cam", "--out", "cam.h5")
    done = subprocess.run(
        warm.words(*words), cwd=folder, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_one_channel_and_a_rectangle(folder: Path, lcam: Lcam) -> None:
    weights = arrays_of(tiny_network())
    weights["0.weight"] = weights["0.weight"].sum(1, keepdims=True)
    nodes = [*tiny_model().graph.node[1:]]
    model = model_of(
        [conv("x", "c1", "0"), *nodes, node("Sigmoid", ["y"], "p")],
        weights,
        sizes=("n", 1, 24, 40),
        outputs=["p"],
    )
    save(model, folder / "grey.onnx")
    done = lcam(
        *("explain", "photos", "--backbone", "grey.onnx", "--method", "scorecam"),
        *("--mean", "0.5", "--std", "0.25", "--overlays", "shown"),
    )
    assert done.code == 0, done.err
    assert "its last step is a sigmoid" in done.err
    with h5py.File("maps.h5") as file:
        assert file["saliency"].shape == (5, 24, 40)
        assert file.attrs["activation"] == "sigmoid"
    assert len([path for path in (folder / "shown").rglob("*") if path.is_file()]) >= 5
