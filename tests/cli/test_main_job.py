"""The three lines of the design card and all that can be wrong with what they are given.

The chain runs through the real command in subprocesses; the many small cases run in this process,
through the same parser, to save the import of torch.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from tests import warm
from tests.cli import job
from tests.cli.job import Lcam
from tests.conftest import ROOT
from tests.tiny import write_pictures

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
TOML = """
[train]
data = "photos"
backbone = "own.py:net"
image-size = 32
epochs = 2
batch-size = 4

[explain]
backbone = "own.py:net"

[evaluate]
backbone = "own.py:net"
"""


lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, images and settings."""
    job.begin(tmp_path, monkeypatch, OWN, 7)
    (tmp_path / "lcam.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def trained(folder: Path, lcam: Lcam) -> Path:
    assert lcam("train").code == 0
    return folder


COLD = [sys.executable, "-m", "lcam_cli"]


def _command(words: list[str], cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words,
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_the_three_lines_as_written(folder: Path) -> None:
    text = TOML.replace('backbone = "own.py:net"\n', "", 1)  # the first line names it
    (folder / "lcam.toml").write_text(text)
    for line in (
        "train --backbone own.py:net --mode img",
        "explain ./photos --out maps.h5",
        "evaluate --nu 15",
    ):
        done = _command([*COLD, *line.split()], folder)
        assert done.returncode == 0, done.stderr.decode()
        assert b"\x1b" not in done.stdout + done.stderr, "no control codes off a terminal"
    assert b"lcam-img" in done.stdout
    assert b"random" in done.stdout
    run_folder = folder / "runs" / "own.py-net-img"
    assert {p.name for p in run_folder.iterdir()} == {
        "attention.safetensors",
        "log.csv",
        "losses.png",
    }


def test_evaluate_prints_every_format_and_gates(trained: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos").code == 0
    result = json.loads(lcam("evaluate", "--nu", "100,15", "--format", "json").out)
    assert result["schema"] == "lcam-results/1"
    assert result["images"] == 7
    assert [row["method"] for row in result["rows"]] == ["lcam-img", "random"]
    row = result["rows"][0]
    assert set(row["nu"]) == {"100", "15"}
    assert row["forward_passes"] == 1
    low, high = row["nu"]["15"]["ad_ci95"]
    assert low <= row["nu"]["15"]["ad"] <= high
    assert lcam("evaluate", "--format", "csv", "--nu", "15").out.startswith("method,nu,")
    assert "| lcam-img |" in lcam("evaluate", "--format", "markdown").out
    passed = lcam("evaluate", "--nu", "15", "--max-ad", "100", "--min-ic", "0")
    assert passed.code == 0
    missed = lcam("evaluate", "--nu", "15", "--min-ic", "101", "--quiet")
    assert missed.code == 1
    assert "lcam-img: IC(15) is" in missed.err
    assert "below 101" in missed.err
    never = lcam("evaluate", "--max-ad", "nan")
    assert never.code == 2, "no score is above it"
    assert "nan is not a percentage" in never.err
    assert lcam("evaluate", "--out", "r.json", "--format", "json").code == 0
    assert json.loads((trained / "r.json").read_text())["images"] == 7
    again = lcam("evaluate", "--out", "r.json", "--format", "json")
    assert again.code == 2
    assert "r.json exists" in again.err


def test_several_classes_of_a_picture_are_one_image(trained: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos", "--class", "0", "--class", "2", "--class", "3").code == 0
    labels = "".join(f"{i:03}.jpg {i % 4}\n" for i in range(7))
    (trained / "labels.txt").write_text(labels)
    words = ("--nu", "50", "--format", "json")
    scored = json.loads(lcam("evaluate", *words, "--labels", "labels.txt").out)
    assert scored["images"] == 7
    assert scored["accuracy"]["labelled"] == 7
    attention = ("--attention", "runs/own.py-net-img", "--backbone", "own.py:net")
    named = ("--class", "0", "--class", "2", "--class", "3")
    side_by_side = lcam("compare", "photos", *attention, "--methods", "random", *named, *words)
    compared = json.loads(side_by_side.out)
    one = next(row for row in scored["rows"] if row["method"] == "lcam-img")
    other = next(row for row in compared["rows"] if row["method"] == "lcam-img")
    for name in ("ad", "ic", "ad_ci95", "ic_ci95"):
        assert one["nu"]["50"][name] == pytest.approx(other["nu"]["50"][name], abs=2), name
    # An image that is gone is missed once.
    (trained / "photos" / "003.jpg").unlink()
    left = lcam("evaluate", *words)
    assert left.err.count("003.jpg") == 1
    assert json.loads(left.out)["skipped"] == 1


def test_the_maps_file_is_as_documented(trained: Path, lcam: Lcam) -> None:
    words = ("explain", "photos", "--top-k", "2", "--map-dtype", "float32", "--no-align")
    assert lcam(*words).code == 0
    with h5py.File(trained / "maps.h5") as file:
        assert file["saliency"].shape == (14, 32, 32)
        assert file["saliency"].dtype == np.float32
        assert file["cam"].shape == (14, 8, 8)
        paths = [p.decode() for p in file["path"][:]]
        assert paths == [f"{i:03}.jpg" for i in range(7) for _ in range(2)]
        confidence = file["confidence"][:].reshape(7, 2)
        assert (confidence[:, 0] >= confidence[:, 1]).all(), "best class first"
        classes = file["class_index"][:].reshape(7, 2)
        assert (classes[:, 0] == file["predicted_index"][:].reshape(7, 2)[:, 0]).all()
        # 50×40 is resized to 46×37, and the crop of 32 begins at (7, 2).
        box = [7 * 50 / 46, 2 * 40 / 37, 39 * 50 / 46, 34 * 40 / 37]
        np.testing.assert_allclose(file["crop_box"][0], box, rtol=1e-5)
        assert file.attrs["schema"] == "lcam-maps"
        assert file.attrs["complete"]
        assert file.attrs["method"] == "lcam-img"
        saliency, cam = file["saliency"][:], file["cam"][:]
    # V = θ(ζ(L)), Eq. 9, from the raw L in the file
    L = torch.from_numpy(cam)
    low, high = L.amin((1, 2), True), L.amax((1, 2), True)
    V = torch.nn.functional.interpolate(((L - low) / (high - low))[:, None], 32, mode="bilinear")
    np.testing.assert_allclose(saliency, V[:, 0].numpy(), atol=1e-5)


def test_maps_are_placed_by_receptive_fields_or_tile(trained: Path, lcam: Lcam) -> None:
    placed = {}
    for name, words in {"auto": [], "yes": ["--align"], "no": ["--no-align"]}.items():
        out = ("--out", f"{name}.h5", "--map-dtype", "float32")
        assert lcam("explain", "photos", *out, *words).code == 0
        with h5py.File(trained / f"{name}.h5") as file:
            placed[name], cam = file["saliency"][:], file["cam"][:]
            params = json.loads(file.attrs["method_params"])
        assert params["align"] is (name != "no")
        # The tiny network's cells lie at 0, 4, 8, ….
        grid = {"start": [0.0, 0.0], "step": [4.0, 4.0]}
        assert params["grid"] == (None if name == "no" else grid)
        (row, floor) = json.loads(lcam("evaluate", f"{name}.h5", "--format", "json").out)["rows"]
        assert (row["align"], floor["align"]) == (name != "no",) * 2
    np.testing.assert_array_equal(placed["auto"], placed["yes"])
    assert np.abs(placed["auto"] - placed["no"]).max() > 0.1
    # Where a cell lies, V is ζ(L) itself; docs/maps-format.md says how to get the rest.
    low, high = cam.min((1, 2), keepdims=True), cam.max((1, 2), keepdims=True)
    L = (cam - low) / (high - low)
    np.testing.assert_allclose(placed["yes"][:, ::4, ::4], L, atol=1e-5)
    even = {"start": [1.5, 1.5], "step": [4.0, 4.0]}  # 8 cells on 32 pixels
    for name, lies in (("yes", grid), ("no", even)):
        (y0, x0), (dy, dx) = lies["start"], lies["step"]
        V = _place(32, 8, y0, dy) @ L @ _place(32, 8, x0, dx).T
        np.testing.assert_allclose(placed[name], V, atol=1e-5)


def _place(pixels: int, cells: int, start: float, step: float) -> np.ndarray:
    at = ((np.arange(pixels) - start) / step).clip(0, cells - 1)
    return (1 - np.abs(at[:, None] - np.arange(cells))).clip(0)


def test_classes_by_name_pngs_overlays_and_stdin(trained: Path, lcam: Lcam) -> None:
    (trained / "names.txt").write_text("cat\ndog\nowl\nfox\n")
    words = ("--method", "gradcam", "--weights", "none", "--image-size", "32")
    named = lcam(
        "explain", "photos", *words, "--classes", "names.txt", "--class", "owl", "--class", "0",
        "--out", "pngs", "--overlay-format", "jpg",
    )  # fmt: skip
    assert named.code == 0, named.err
    maps = sorted(p.relative_to(trained).as_posix() for p in trained.glob("pngs/maps/*.png"))
    assert maps[:2] == ["pngs/maps/000.jpg.0.png", "pngs/maps/000.jpg.2.png"]
    assert len(maps) == 14
    with Image.open(trained / "pngs/overlays/000.jpg.2.jpg") as drawn:
        assert drawn.size == (50, 40), "overlays have the image's own resolution"
    wrong = lcam("explain", "photos", *words, "--classes", "names.txt", "--class", "foxx")
    assert wrong.code == 2
    assert "there is no class named 'foxx'" in wrong.err
    assert "fox" in wrong.err.splitlines()[-1]


@pytest.mark.slow
def test_a_list_on_stdin_with_names_that_are_not_utf8(trained: Path) -> None:
    raw = os.fsencode(trained / "photos") + b"/caf\xe9 \xff.jpg"
    shutil.copy(trained / "photos" / "000.jpg", raw)
    listed = raw + b"\0" + os.fsencode(trained / "photos" / "001.jpg") + b"\0"
    done = _command(warm.words("explain", "-", "-0", "--out", "l.h5"), trained, listed)
    assert done.returncode == 0, done.stderr.decode()
    with h5py.File(trained / "l.h5") as file:
        assert [p.split(b"/")[-1] for p in file["path"][:]] == [raw.split(b"/")[-1], b"001.jpg"]
    assert _command(warm.words("evaluate", "l.h5"), trained).returncode == 0


def test_bad_pictures_are_listed_and_the_others_finished(trained: Path, lcam: Lcam) -> None:
    photos = trained / "photos"
    (photos / "text.jpg").write_text("no picture")
    (photos / "empty.png").touch()
    (photos / "cut.jpg").write_bytes((photos / "000.jpg").read_bytes()[:400])
    done = lcam("explain", "photos")
    assert done.code == 3
    for name in ("text.jpg", "empty.png", "cut.jpg"):
        assert f"{name}: " in done.err
    with h5py.File(trained / "maps.h5") as file:
        assert len(file["path"]) == 7
        assert len(file["skipped/path"]) == 3
    # Those were never explained, so evaluating leaves nothing out.
    assert lcam("evaluate").code == 0
    (photos / "003.jpg").unlink()
    left = lcam("evaluate", "--format", "json")
    assert left.code == 3
    assert json.loads(left.out)["skipped"] == 1
    strict = lcam("explain", "photos", "--strict", "--overwrite")
    assert strict.code == 2
    assert "cut.jpg: " in strict.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["explain", "nowhere"], ["nowhere"]),
        (["explain", "empty"], ["empty"]),
        (["explain"], ["no images to explain"]),
        (["explain", "photos", "--method", "gradcamm"], ["gradcamm", "gradcam"]),
        (["explain", "photos", "--backbone", "resnet18"], ["own.py:net, not resnet18"]),
        (["explain", "photos", "--layer", "1"], ["layer 3, not 1"]),
        (["explain", "photos", "--image-size", "64"], ["other preprocessing than the options"]),
        (["explain", "photos", "--attention", "nowhere"], ["no attention file"]),
        (["explain", "photos", "--class", "4"], ["class index 4", "0 to 3"]),
        (["explain", "photos", "--top-k", "5"], ["4 classes"]),
        (["explain", "photos", "--out", "own.py/x.h5"], ["own.py"]),
        (["explain", "photos", "--colormap", "viridid", "--overlays", "o"], ["viridis"]),
        (["explain", "photos", "--resume", "--overwrite"], ["exclude each other"]),
        (["train", "--backbone", "vgg17"], ["vgg17", "vgg16"]),
        (["train", "--weights", "no.pt"], ["no.pt"]),
        (["train", "--layer", "9"], ["no layer '9'"]),
        (["train", "--mode", "imgg"], ["'--mode': 'imgg' is not", "did you mean img?"]),
        (["train"], ["holds a finished run", "--overwrite"]),
        (["evaluate", "nowhere.h5"], ["nowhere.h5"]),
        (["evaluate", "own.py"], ["own.py"]),
        (["evaluate", "--nu", "0"], ["0"]),
        (["evaluate", "--device", "tpu"], ["tpu"]),
    ],
)
def test_wrong_usage_is_one_error_that_names_it(
    trained: Path, lcam: Lcam, words: list[str], parts: list[str]
) -> None:
    (trained / "empty").mkdir()
    done = lcam(*words)
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.err
    assert "internal error" not in done.err
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert not (trained / "maps.h5").exists()


def test_without_a_run_both_ways_on_are_named(folder: Path, lcam: Lcam) -> None:
    done = lcam("explain", "photos")
    assert done.code == 2
    assert "lcam train" in done.err
    assert "--method gradcam" in done.err
    (folder / "lcam.toml").unlink()
    assert "no backbone named" in lcam("explain", "photos", "--method", "gradcam").err


def test_outputs_are_never_overwritten_unasked(trained: Path, lcam: Lcam) -> None:
    for out in ("maps.h5", "pngs"):
        assert lcam("explain", "photos", "--out", out).code == 0
        again = lcam("explain", "photos", "--out", out)
        assert again.code == 2
        assert "--resume" in again.err
        assert "--overwrite" in again.err
        resumed = lcam("explain", "photos", "--out", out, "--resume")
        assert resumed.code == 0
        assert "already complete" in resumed.err
        assert lcam("explain", "photos", "--out", out, "--overwrite").code == 0


def _unfinish(out: Path) -> None:
    """Make a finished output look like that of a run that was killed at its very end."""
    if out.is_dir():
        info = out / "maps" / "info.json"
        info.write_text(json.dumps({**json.loads(info.read_text()), "complete": False}) + "\n")
    else:
        with h5py.File(out, "r+") as file:
            file.attrs.modify("complete", np.False_)


def _rows(out: Path) -> int:
    if out.is_dir():
        return len((out / "maps" / "maps.jsonl").read_text().splitlines())
    with h5py.File(out) as file:
        return len(file["path"])


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_a_resumed_run_drops_no_rows_where_pictures_changed(
    trained: Path, lcam: Lcam, out: str, change: str
) -> None:
    words = ["explain", "photos", "--batch-size", "2", "--out", out]
    assert lcam(*words).code == 0
    _unfinish(trained / out)
    rows = _rows(trained / out)
    first = min((trained / "photos").iterdir())
    if change == "added":
        first.with_name("!.jpg").write_bytes(first.read_bytes())
    elif change == "removed":
        first.unlink()
    else:
        first.rename(first.with_name("zzz.jpg"))
    done = lcam(*words, "--resume")
    assert done.code == 2
    assert f"instead of {first.name} there is" in done.err
    assert _rows(trained / out) == rows


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
def test_a_finished_output_says_what_it_lacks(trained: Path, lcam: Lcam, out: str) -> None:
    words = ["explain", "photos", "--batch-size", "2", "--out", out]
    assert lcam(*words).code == 0
    first = min((trained / "photos").iterdir())
    first.with_name("zzz.jpg").write_bytes(first.read_bytes())
    done = lcam(*words, "--resume")
    assert done.code == 2
    assert "no map of zzz.jpg" in done.err
    _unfinish(trained / out)
    rows = _rows(trained / out)
    assert lcam(*words, "--resume").code == 0
    assert _rows(trained / out) == rows + 1


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
def test_what_an_earlier_run_left_out_is_told_again(folder: Path, lcam: Lcam, out: str) -> None:
    """And counts: finished, but some inputs could not be read."""
    (folder / "photos" / "bad.jpg").write_text("no picture")
    (folder / "broken.tar").write_bytes(b"no tar" * 100)
    words = ["explain", "photos", "broken.tar", "--method", "random", "--out", out]
    assert lcam(*words).code == 3
    for unfinished in (False, True):
        if unfinished:
            _unfinish(folder / out)
        strict = lcam(*words, "--resume", "--strict")
        assert strict.code == 2
        assert "broken.tar: " in strict.err
        done = lcam(*words, "--resume")
        assert done.code == 3
        for bad in ("photos/bad.jpg", "broken.tar"):
            assert done.err.count(f"skipped {bad}: ") == 1
        assert "2 of the inputs could not be read" in done.err
        assert ("already complete" in done.err) is not unfinished


@pytest.mark.parametrize("out", ["maps.h5", "pngs"])
@pytest.mark.parametrize("unfinished", [True, False])
def test_a_resumed_run_explains_the_classes_it_began_with(
    folder: Path, lcam: Lcam, out: str, unfinished: bool
) -> None:
    words = ["explain", "photos", "--method", "random", "--out", out]
    assert lcam(*words, "--class", "1").code == 0
    if unfinished:
        _unfinish(folder / out)
    for other in (["--class", "2"], ["--top-k", "2"], []):
        done = lcam(*words, *other, "--resume")
        assert done.code == 2
        assert "holds other maps: they explain class 1, these" in done.err
    assert lcam(*words, "--class", "1", "--resume").code == 0


def test_code_named_by_a_file_is_not_run_unless_the_user_names_it(
    trained: Path, lcam: Lcam
) -> None:
    assert lcam("explain", "photos").code == 0
    (trained / "lcam.toml").unlink()
    for words in (["explain", "photos", "--out", "b.h5"], ["evaluate"]):
        done = lcam(*words)
        assert done.code == 2
        assert "which is code" in done.err
        assert "--backbone own.py:net" in done.err
    assert lcam("evaluate", "--backbone", "own.py:net").code == 0


def test_weights_that_changed_since_training_are_refused(folder: Path, lcam: Lcam) -> None:
    from tests.tiny import tiny_network

    state = tiny_network().state_dict()
    torch.save(state, folder / "w.pt")
    assert lcam("train", "--weights", "w.pt").code == 0
    assert lcam("explain", "photos").code == 0
    state["6.bias"] += 1
    torch.save(state, folder / "w.pt")
    done = lcam("explain", "photos", "--overwrite")
    assert done.code == 2
    assert "was made with weights sha256:" in done.err
    (folder / "w.pt").unlink()
    assert "no longer at" in lcam("evaluate").err


def test_moved_pictures_are_found_with_images(trained: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos").code == 0
    (trained / "photos").rename(trained / "moved")
    lost = lcam("evaluate")
    assert lost.code == 2
    assert "--images" in lost.err
    assert lcam("evaluate", "--images", "moved").code == 0


def test_labels_from_a_file_and_from_folders(trained: Path, lcam: Lcam) -> None:
    for i, path in enumerate(sorted((trained / "photos").iterdir())):
        target = trained / "sorted" / str(i % 4)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert lcam("explain", "sorted").code == 0
    with h5py.File(trained / "maps.h5") as file:
        predicted = file["predicted_index"][:]
        paths = [p.decode() for p in file["path"][:]]
    by_folder = json.loads(lcam("evaluate", "--labels", "folders", "--format", "json").out)
    hits = np.mean([int(p.split("/")[0]) == y for p, y in zip(paths, predicted, strict=True)])
    assert by_folder["accuracy"]["top1"] == pytest.approx(100 * hits, abs=1e-3)
    lines = [f"{p.split('/')[1]} {y}\n" for p, y in zip(paths, predicted, strict=True)]
    (trained / "labels.txt").write_text("".join(lines))
    right = json.loads(lcam("evaluate", "--labels", "labels.txt", "--format", "json").out)
    assert right["accuracy"] == {"top1": 100.0, "top5": 100.0, "labelled": 7}
    (trained / "labels.txt").write_text("000.jpg owl\n")
    assert "there is no class named 'owl'" in lcam("evaluate", "--labels", "labels.txt").err
    assert lcam("explain", "photos", "--overwrite").code == 0
    flat = lcam("evaluate", "--labels", "folders")
    assert "these images are not in a folder named after their class" in flat.err
    assert "use --labels FILE" in flat.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_resume(trained: Path, number: signal.Signals) -> None:
    write_pictures(trained / "many", 400)
    explain = ("explain", "many", "--batch-size", "2")
    process = subprocess.Popen(
        [*COLD, *explain],
        cwd=trained,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    while not (trained / "maps.h5").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"--resume" in err
    with h5py.File(trained / "maps.h5") as file:
        assert 0 < len(file["path"]) < 400
        assert not file.attrs["complete"]
    done = _command(warm.words(*explain, "--resume"), trained)
    assert done.returncode == 0, done.stderr.decode()
    whole = _command(warm.words(*explain, "--out", "whole.h5"), trained)
    assert whole.returncode == 0
    with h5py.File(trained / "maps.h5") as one, h5py.File(trained / "whole.h5") as other:
        for name in ("saliency", "path", "class_index", "confidence"):
            assert np.array_equal(one[name][:], other[name][:]), name


def test_list_methods(lcam: Lcam, folder: Path) -> None:
    lines = lcam("methods").out.splitlines()
    begin = {line.split(maxsplit=1)[0]: line for line in lines if line}
    families = [word for word in begin if word.startswith("[")]
    assert families[:2] == ["[learned]", "[gradient]"]
    assert list(begin).index("lcam") < list(begin).index("[gradient]")
    assert begin["gradcam"].split()[1:6] == ["1", "+", "backward", "gradients", "gradients"]
    assert "explains no class" in begin["eigencam"]


def test_a_signal_while_the_network_loads_ends_the_run_with_a_line(folder: Path) -> None:
    (folder / "own.py").write_text(
        'from pathlib import Path\nimport time\nPath("loading").touch()\ntime.sleep(60)\n'
    )
    process = subprocess.Popen(
        [*COLD, "explain", "photos", "--method", "gradcam"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    while not (folder / "loading").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    told = b"from lcam.toml: backbone\nerror: interrupted\n"
    assert (process.returncode, err) == (130, told)
