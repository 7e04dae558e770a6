"""``lcam compare`` through the real parser, on the tiny network."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.images import tars
from lcam_cli.methods.base import Maps
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.registry import METHODS, Entry
from tests.cli import job
from tests.cli.job import Lcam

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
def other():
    return tiny_network(channels=8)
"""
SETTINGS = """
[train]
data = "photos"
backbone = "own.py:net"
image-size = 32
epochs = 1
batch-size = 4

[compare]
backbone = "own.py:net"
image-size = 32
batch-size = 4
"""


lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 10)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture
def attention(folder: Path, lcam: Lcam) -> Path:
    """A trained attention, which includes its own preprocessing."""
    assert lcam("train").code == 0
    settings = SETTINGS.partition("[compare]")[0] + '[compare]\nbackbone = "own.py:net"\n'
    (folder / "lcam.toml").write_text(settings)
    return folder / "runs" / "own.py-net-img"


def compared(lcam: Lcam, *words: str | Path) -> dict[str, Any]:
    done = lcam("compare", "photos", "--format", "json", *words)
    assert done.code == 0, done.err
    content: dict[str, Any] = json.loads(done.out)
    return content


def names(result: dict[str, Any]) -> list[str]:
    return [row["method"] for row in result["rows"]]


def comparable(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without how long they took."""
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in result["rows"]]


def test_the_default_is_all_of_one_pass_and_the_floor(folder: Path, lcam: Lcam) -> None:
    done = lcam("compare", "photos")
    assert done.code == 0, done.err
    assert "skipped lcam: there is no trained attention" in done.err
    shown = [line.split("│")[1].strip() for line in done.out.splitlines() if line.startswith("│")]
    assert shown[0] == "gradcam"
    assert shown[-1] == "random"
    assert not {"rise", "scorecam"} & set(shown)


def test_a_rows_numbers_are_those_of_evaluate(folder: Path, lcam: Lcam) -> None:
    result = compared(lcam, "--methods", "gradcam", "--nu", "100,30")
    words = ("--backbone", "own.py:net", "--image-size", "32", "--batch-size", "4")
    lcam("explain", "photos", "--method", "gradcam", *words, "--map-dtype", "float32")
    done = lcam("evaluate", "--nu", "100,30", "--backbone", "own.py:net", "--format", "json")
    expected = json.loads(done.out)
    for ours, theirs in zip(result["rows"], expected["rows"], strict=True):
        assert ours["method"] == theirs["method"]
        for nu in ("100", "30"):
            for key in ("ad", "ic", "ad_ci95", "ic_ci95"):
                assert ours["nu"][nu][key] == pytest.approx(theirs["nu"][nu][key], abs=1e-3)
        assert ours["mean_saliency"] == pytest.approx(theirs["mean_saliency"], abs=1e-3)


def test_differences_are_those_of_the_rows(folder: Path, lcam: Lcam) -> None:
    result = compared(lcam, "--methods", "gradcam,gradcam++", "--nu", "50")
    scores = {row["method"]: row["nu"]["50"] for row in result["rows"]}
    best = min(scores[name]["ad"] for name in ("gradcam", "gradcam++"))
    for score in scores.values():
        assert score["ad_diff_to_best"] == pytest.approx(score["ad"] - best, abs=2e-4)
        low, high = score["ad_diff_ci95"]
        assert low <= score["ad_diff_to_best"] <= high


def test_attentions_are_rows_and_bring_their_backbone(attention: Path, lcam: Lcam) -> None:
    assert names(compared(lcam, "--nu", "50"))[0] == "lcam-img", "the newest run is taken"
    copy = attention.parent / "again"
    shutil.copytree(attention, copy)
    both = compared(
        lcam, "--attention", attention, "--attention", copy, "--methods", "gradcam", "--no-floor"
    )
    assert names(both) == ["lcam-img (own.py-net-img)", "lcam-img (again)", "gradcam"]
    assert comparable(both)[0]["nu"] == comparable(both)[1]["nu"]
    ordered = compared(lcam, "--methods", "gradcam,lcam-img", "--nu", "50")
    assert names(ordered) == ["gradcam", "lcam-img", "random"]
    missing = lcam("compare", "photos", "--methods", "lcam-fm")
    assert missing.code == 2
    assert "no trained attention for lcam-fm" in missing.err


def test_rows_say_where_their_cells_lie(attention: Path, lcam: Lcam) -> None:
    words = ("--methods", "lcam-img,gradcam,rise", "--rise-masks", "8")

    def aligned(*more: str) -> list[bool]:
        return [row["align"] for row in compared(lcam, *words, *more)["rows"]]

    assert aligned() == [True, True, False, True], "rise's cells are its own"
    assert aligned("--align") == [True, True, False, True]
    assert aligned("--no-align") == [False] * 4


def test_without_a_backbone_a_run_that_knows_one_is_named(attention: Path, lcam: Lcam) -> None:
    Path("lcam.toml").unlink()
    done = lcam("compare", "photos", "--methods", "gradcam")
    assert done.code == 2
    assert "no backbone named" in done.err
    assert "or pass --attention runs/own.py-net-img" in done.err


def test_attentions_of_different_backbones_are_refused_by_name(attention: Path, lcam: Lcam) -> None:
    assert lcam("train", "--backbone", "own.py:other").code == 0
    other = attention.parent / "own.py-other-img"
    done = lcam("compare", "photos", "--attention", attention, "--attention", other)
    assert done.code == 2
    assert "belongs to own.py:net (" in done.err
    assert "to own.py:other (" in done.err


def test_every_format(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", "--methods", "gradcam,gradcam++", "--nu", "100")
    latex = lcam(*words, "--format", "latex").out
    assert r"\begin{tabular}{lrrrrrr}" in latex
    assert r"\textbf{" in latex
    assert "| gradcam++ |" in lcam(*words, "--format", "markdown").out
    lines = list(csv.DictReader(io.StringIO(lcam(*words, "--format", "csv").out)))
    assert [line["method"] for line in lines] == ["gradcam", "gradcam++", "random"]
    assert {"ad_diff_to_best", "ad_diff_low", "ic_diff_high"} <= set(lines[0])


def test_all_maps_a_group_a_method(folder: Path, lcam: Lcam) -> None:
    from lcam_cli import MapsFile

    compared(lcam, "--methods", "gradcam", "--out", "all.h5", "--max-images", "6")
    words = ("--backbone", "own.py:net", "--image-size", "32", "--batch-size", "4")
    assert lcam("explain", "photos", "--method", "gradcam", *words).code == 0
    with MapsFile(Path("all.h5"), "gradcam") as ours, MapsFile(Path("maps.h5")) as theirs:
        assert (len(ours), ours.complete, ours.info.method) == (6, True, "gradcam")
        rows = [theirs.paths().index(path) for path in ours.paths()]
        expected = np.stack([theirs.rows(i, i + 1).saliency[0] for i in rows])
        np.testing.assert_allclose(ours.rows(0, 6).saliency, expected, atol=2e-3)
        assert ours.resolve(ours.paths()[0]).is_file()
    with h5py.File("all.h5") as file:
        assert set(file) == {"gradcam", "random"}
        assert file["random/saliency"].shape == (6, 32, 32)
    assert Path("all.h5").stat().st_size < 200_000, "no room is kept for rows that will not come"
    again = lcam("compare", "photos", "--out", "all.h5")
    assert again.code == 2
    assert "all.h5 exists" in again.err
    whole = lcam("evaluate", "all.h5", "--backbone", "own.py:net")
    assert whole.code == 2
    assert "gradcam, random" in whole.err


@pytest.mark.parametrize("classes", [(), ("0", "2")])
def test_the_figure_has_a_tile_a_map(folder: Path, lcam: Lcam, classes: tuple[str, ...]) -> None:
    asked = [word for name in classes for word in ("--class", name)]
    done = lcam("compare", "photos", "--methods", "gradcam", "--figure", "f.png", *asked)
    assert done.code == 0, done.err
    with Image.open("f.png") as drawn:
        columns = 8 * max(len(classes), 1)
        assert drawn.width > columns * 300
        assert drawn.height > 3 * 300, "the images, gradcam and random"
        pixels = np.asarray(drawn.convert("RGB"), np.float32)
    tile = (slice(-150, -140), slice(-150, -140))
    assert pixels[tile].std() > 0 or pixels[tile].mean() < 255, "the last tile is drawn"


@pytest.mark.slow
def test_curves_add_columns(folder: Path, lcam: Lcam) -> None:
    result = compared(lcam, "--methods", "gradcam", "--metrics", "ad,insertion,deletion")
    row = result["rows"][0]
    for name in ("insertion", "deletion"):
        low, high = row[name]["ci95"]
        assert 0 <= low <= row[name]["auc"] <= high <= 1
    table = lcam("compare", "photos", "--methods", "gradcam", "--metrics", "deletion").out
    assert "deletion" in table
    assert "insertion" not in table


def test_bad_pictures_count_once_and_exit_3(folder: Path, lcam: Lcam) -> None:
    (folder / "photos" / "004.jpg").write_text("no picture")
    done = lcam(
        "compare", "photos", "--methods", "gradcam,rise", "--rise-masks", "20", "--format", "json"
    )
    assert done.code == 3
    assert done.err.count("skipped photos/004.jpg") == 1, "though two sweeps met it"
    result = json.loads(done.out)
    assert (result["images"], result["skipped"]) == (9, 1)
    assert {row["method"]: row["forward_passes"] for row in result["rows"]}["rise"] == 20


def test_pictures_none_of_which_can_be_read(folder: Path, lcam: Lcam) -> None:
    for path in (folder / "photos").iterdir():
        path.write_text("no picture")
    done = lcam("compare", "photos")
    assert done.code == 2
    assert "no method could explain any of the 10 images" in done.err
    assert "none could be read" in done.err


# --- Methods that fail --------------------------------------------------------------------------


class Fragile(GradCam):
    """Fails where an image's mean is among the darkest; with ``always``, on every image."""

    name = "fragile"

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self._threshold = threshold

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        if (seen.x.mean((1, 2, 3)) < self._threshold).any():
            raise ValueError("too dark")
        return super().__call__(engine, seen, classes)


def darkest(folder: Path) -> list[tuple[float, str]]:
    from lcam_cli.images.preprocess import center_view
    from lcam_cli.images.read import read_picture
    from tests.tiny import SMALL

    found = []
    for path in sorted((folder / "photos").iterdir()):
        view, _ = center_view(read_picture(str(path)), SMALL)
        found.append((float(view.mean() / 255), path.name))
    return sorted(found)


def enter(monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[..., Any]) -> None:
    monkeypatch.setitem(METHODS, name, Entry(f"{name} of the tests", make))


def test_a_picture_that_one_method_fails_on_is_lost_for_all(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, dark), (second, _) = darkest(folder)[:2]
    enter(monkeypatch, "fragile", lambda *_: Fragile((first + second) / 2))
    (folder / "lcam.toml").write_text(SETTINGS + "resize = 36\n")
    done = lcam("compare", "photos", "--methods", "gradcam,fragile", "--format", "json")
    assert done.code == 3
    assert f"{dark}: fragile: ValueError: too dark" in done.err
    result = json.loads(done.out)
    assert (result["images"], result["skipped"]) == (9, 1)
    gradcam, fragile, _ = result["rows"]
    assert gradcam["nu"] == fragile["nu"], "the same maps on the same nine pictures"


def test_a_method_that_explains_nothing(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, "hopeless", lambda *_: Fragile(2.0))
    named = lcam("compare", "photos", "--methods", "gradcam,hopeless")
    assert named.code == 2
    assert "stopped hopeless" in named.err
    left_out = lcam("compare", "photos", "--format", "json")
    assert left_out.code == 3
    assert left_out.err.count("too dark") == 1, "told once, not image by picture"
    assert "skipped hopeless: it fails on every image" in left_out.err
    assert "hopeless" not in left_out.out
    assert json.loads(left_out.out)["images"] == 10


def test_a_method_that_cannot_explain_this_backbone(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lcam_cli.errors import LcamError

    def refuse(*_: object) -> Any:
        raise LcamError("picky does not like own.py:net", "use another")

    # From the last to the first: they are put back in the other order, which is theirs.
    for name in reversed([name for name in METHODS if name not in ("gradcam", "random")]):
        monkeypatch.delitem(METHODS, name)
    enter(monkeypatch, "picky", refuse)
    named = lcam("compare", "photos", "--methods", "picky,gradcam")
    assert named.code == 2
    assert "picky does not like" in named.err
    everything = lcam("compare", "photos", "--methods", "all")
    assert everything.code == 0
    assert "skipped picky: picky does not like own.py:net" in everything.err
    assert lcam("compare", "photos").code == 0, "nobody asked for it"


# --- Going on -----------------------------------------------------------------------------------


class Counting(GradCam):
    """Counts the images it explains, and can ask to stop in the middle."""

    def __init__(self, name: str, passes: int, stop: signal.Signals | None = None) -> None:
        super().__init__()
        self.name, self.forward_passes, self.stop, self.count = name, passes, stop, 0

    def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
        self.count += len(seen.x)
        if self.stop is not None:
            os.kill(os.getpid(), self.stop)
        return super().__call__(engine, seen, classes)


@pytest.mark.parametrize(("with_maps", "number"), [(False, signal.SIGINT), (True, signal.SIGTERM)])
def test_an_interrupted_comparison_goes_on_by_method(
    folder: Path,
    lcam: Lcam,
    monkeypatch: pytest.MonkeyPatch,
    with_maps: bool,
    number: signal.Signals,
) -> None:
    quick, slow = Counting("quick", 1), Counting("slow", 9, stop=number)
    enter(monkeypatch, "quick", lambda *_: quick)
    enter(monkeypatch, "slow", lambda *_: slow)
    out = ("--out", "m.h5") if with_maps else ()
    words = ("compare", "photos", "--methods", "quick,slow", "--format", "json", *out)
    stopped = lcam(*words)
    assert stopped.code == 130
    assert "--resume" in stopped.err
    assert not stopped.out
    assert not Path("m.h5").exists()
    assert (quick.count, slow.count) == (10, 4), "stopped in its first batch"
    slow.stop = None
    resumed = lcam(*words, "--resume")
    assert resumed.code == 0, resumed.err
    assert "reused from an earlier run: quick, random" in resumed.err
    assert "nothing to resume" not in resumed.err
    assert quick.count == 10, "not done again"
    assert slow.count == 14, "begun anew"
    fresh = json.loads(lcam(*words, "--overwrite").out)
    assert comparable(fresh) == comparable(json.loads(resumed.out))
    if with_maps:
        with h5py.File("m.h5") as file:
            assert [len(file[name]["path"]) for name in ("quick", "slow", "random")] == [10] * 3


def test_it_says_where_there_is_nothing_to_resume(folder: Path, lcam: Lcam) -> None:
    words = ("compare", "photos", "--methods", "cam", "--max-images", "2", "--resume")
    assert "nothing to resume in runs/compare/" in lcam(*words).err
    assert "nothing to resume" not in lcam(*words).err


def test_other_settings_or_pictures_are_not_taken_over(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Counting("quick", 1)
    enter(monkeypatch, "quick", lambda *_: quick)
    words = ("compare", "photos", "--methods", "quick", "--resume")
    for more in ((), ("--nu", "15"), ("--mask-space", "normalized"), ("--class", "1")):
        before = quick.count
        assert lcam(*words, *more).code == 0
        assert quick.count == before + 10
        assert lcam(*words, *more).code == 0
        assert quick.count == before + 10, "the second time it is taken over"
    Image.new("RGB", (50, 40), "red").save(folder / "photos" / "000.jpg")
    before = quick.count
    assert lcam(*words).code == 0
    assert quick.count == before + 10, "an image has changed"
    for kept in (folder / "runs" / "compare").rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:100])
    assert lcam(*words).code == 0, "a damaged file is no reason to fail"
    assert quick.count == before + 20


def test_a_tar_that_changed_is_not_taken_over(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Counting("quick", 1)
    enter(monkeypatch, "quick", lambda *_: quick)
    pictures = sorted((folder / "photos").iterdir())

    def pack(first: int) -> None:
        with tarfile.open("photos.tar", "w") as tar:
            for k, path in enumerate(pictures[first : first + 4]):
                tar.add(path, f"{k}.jpg")
        tars._indexes.clear()  # as in another process

    words = ("compare", "photos.tar", "--methods", "quick", "--resume")
    pack(0)
    for expected in (4, 4):
        assert lcam(*words).code == 0
        assert quick.count == expected
    pack(4)
    assert lcam(*words).code == 0
    assert quick.count == 8


def test_two_rows_of_one_name_inside_are_two_rows(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dim(Counting):
        def __call__(self, engine: Engine, seen: Forward, classes: Tensor) -> Maps:
            return Maps(super().__call__(engine, seen, classes).saliency / 2)

    enter(monkeypatch, "bright", lambda *_: Counting("same", 1))
    enter(monkeypatch, "dim", lambda *_: Dim("same", 1))
    words = ("compare", "photos", "--methods", "bright,dim", "--no-floor", "--out", "m.h5")
    done = lcam(*words, "--format", "json")
    assert done.code == 0, done.err
    bright, dim = (row["mean_saliency"] for row in json.loads(done.out)["rows"])
    assert dim == pytest.approx(bright / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["no images to compare on"]),
        (["photos", "--methods", "gradcamm"], ["gradcamm", "gradcam"]),
        (["photos", "--metrics", "insertoin"], ["insertoin", "insertion"]),
        (["photos", "--out", "maps.png"], ["maps.png", ".h5"]),
        (["photos", "--figure", "f.jpg"], ["f.jpg", ".png"]),
        (["photos", "--attention", "nowhere"], ["no attention file"]),
        (["photos", "--class", "9"], ["class index 9"]),
        (["photos", "--nu", "101"], ["101"]),
    ],
)
def test_wrong_usage(folder: Path, lcam: Lcam, words: list[str], parts: list[str]) -> None:
    done = lcam("compare", *words)
    assert done.code == 2
    assert "internal error" not in done.err
    for part in parts:
        assert part in done.err


def test_each_picture_is_forwarded_once_a_sweep(
    folder: Path, lcam: Lcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = Engine.forward

    def counted(self: Engine, x: torch.Tensor) -> Forward:
        seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Engine, "forward", counted)
    compared(lcam, "--methods", "gradcam,gradcam++")
    assert sum(seen) == 10, "three rows share one pass"
