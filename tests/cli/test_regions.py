"""``--regions``, ``--map-size``, ``--fit pad`` by the real command, on images turned by EXIF."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lcam_cli import BackboneOptions, EngineOptions, ExplainOptions, LcamError, explain_folder
from lcam_cli.maps.region import kept_region
from lcam_cli.measures.object_files.coco import read_coco
from tests.cli import job
from tests.cli.job import Lcam
from tests.runs.test_explain_folder import after

lcam = job.lcam

NET = ("--backbone", "own.py:net", "--weights", "none", "--image-size", "32", "--resize", "32")
COMMAND = ("explain", "photos", *NET, "--method", "gradcam", "--device", "cpu", "--workers", "1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of 64×32 as one sees them, one of them stored turned; and one of 40×60."""
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 0)
    photos = tmp_path / "photos"
    photos.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    cells = Image.fromarray(rng.integers(0, 256, (4, 8, 3), np.uint8))
    wide = cells.resize((64, 32), Image.Resampling.BICUBIC)
    wide.save(photos / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it
    wide.transpose(Image.Transpose.ROTATE_90).save(photos / "b.png", exif=exif)
    wide.resize((40, 60)).save(photos / "c.png")
    return tmp_path


@pytest.mark.parametrize(
    ("fit", "scale", "corner"),
    [("crop", (1, 1), (16, 0)), ("squash", (2, 1), (0, 0)), ("pad", (2, 2), (0, -16))],
)
def test_boxes_are_of_the_upright_original(
    lcam: Lcam, fit: str, scale: tuple[int, int], corner: tuple[int, int]
) -> None:
    words = ("--fit", fit, "--regions", "boxes.json", "--contour", "10", "--map-dtype", "float32")
    done = lcam(*COMMAND, *words)
    assert done.code == 0, done.err
    data = json.loads(Path("boxes.json").read_text())
    assert [(i["file_name"], i["width"], i["height"]) for i in data["images"]] == [
        ("a.png", 64, 32),
        ("b.png", 64, 32),
        ("c.png", 40, 60),
    ]
    with h5py.File("maps.h5") as file:
        V = file["saliency"][0]
        assert json.loads(file.attrs["preprocess"])["fit"] == fit
        confidence = float(file["confidence"][0])
    of = {i["id"]: i["file_name"] for i in data["images"]}
    boxes = {
        name: [a["bbox"] for a in data["annotations"] if of[a["image_id"]] == name]
        for name in of.values()
    }
    assert boxes["a.png"] == boxes["b.png"], "as it is seen, not as it is stored"
    kept = kept_region(V, 10)
    if fit == "pad":
        kept[:8] = kept[24:] = False
    ys, xs = np.nonzero(kept)
    edges = np.array([[b[0], b[1], b[0] + b[2], b[1] + b[3]] for b in boxes["a.png"]])
    around = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    expected = np.array(around) * [*scale, *scale] + [*corner, *corner]
    together = [*edges[:, :2].min(0), *edges[:, 2:].max(0)]
    np.testing.assert_allclose(together, expected.clip(0, [64, 32, 64, 32]), atol=0.01)
    # The peak of the map may lie on a bar; where it does not, V is 1 there.
    best = max(a["score"] for a in data["annotations"] if a["image_id"] == 0)
    assert best == pytest.approx(confidence * V[kept].max(), abs=1e-5)
    read = read_coco(Path("boxes.json"))
    assert len(read.boxes) == len(data["annotations"])
    if fit != "crop":  # and scored as objects of the maps that they are of, they fit
        words = ("evaluate", *NET[:2], "--boxes", "boxes.json", "--metrics", "pointing")
        scored = lcam(*words, "--format", "json")
        assert scored.code == 0, scored.err


def test_a_table_has_a_row_a_region(lcam: Lcam) -> None:
    assert lcam(*COMMAND, "--regions", "boxes.csv", "--top-k", "2").code == 0
    with Path("boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {"a.png", "b.png", "c.png"}
    for row in rows:
        assert 0 <= float(row["x0"]) < float(row["x1"]) <= float(row["width"])
        assert 0 <= float(row["y0"]) < float(row["y1"]) <= float(row["height"])
    assert len({(row["path"], row["class_index"]) for row in rows}) == 6


OPTIONS = ExplainOptions(
    method="gradcam",
    regions=Path("boxes.json"),
    backbone=BackboneOptions("own.py:net", "none", image_size=32),
    engine=EngineOptions("cpu", batch_size=1, workers=1),
)


def test_a_stopped_run_goes_on_to_the_same_file(folder: Path) -> None:
    import dataclasses

    whole = dataclasses.replace(OPTIONS, regions=Path("whole.json"))
    explain_folder("photos", "whole.h5", whole)
    assert explain_folder("photos", options=OPTIONS, stop=after(2)).interrupted
    assert not Path("boxes.json").exists(), "whole under its name, or not there"
    journal = Path(".boxes.json.lcam-lines")
    with journal.open("ab") as file:
        file.write(b'["cut sho')  # as a kill leaves it
    resumed = dataclasses.replace(OPTIONS, resume=True)
    explain_folder("photos", options=resumed)
    assert Path("boxes.json").read_bytes() == Path("whole.json").read_bytes()
    assert not journal.exists()
    assert explain_folder("photos", options=resumed).was_complete
    other = dataclasses.replace(resumed, regions=Path("other.json"))
    with pytest.raises(LcamError, match="lacks the regions of 3 stored maps"):
        explain_folder("photos", options=other)
    assert not list(folder.glob(".other*"))


def test_what_cannot_be_is_refused_before_any_work(lcam: Lcam) -> None:
    for words, said in (
        (("--regions", "boxes.txt"), "does not end in .json"),
        (("--regions", "maps.json", "--shard", "0/2"), "does not work with --shard"),
        (("--map-size", "original"), "needs a folder"),
        (("--map-format", "tiff"), "is for folders"),
        (("--contour", "0"), "0 is not above 0"),
    ):
        done = lcam(*COMMAND, *words)
        assert done.code == 2
        assert said in done.err
    Path("boxes.csv").write_text("mine")
    done = lcam(*COMMAND, "--regions", "boxes.csv")
    assert done.code == 2
    assert "boxes.csv exists" in done.err
    assert Path("boxes.csv").read_text() == "mine"


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_maps_of_the_pictures_own_size(lcam: Lcam, fit: str) -> None:
    words = ("--out", "out", "--map-size", "original", "--map-format", "npy", "--fit", fit)
    done = lcam(*COMMAND, *words)
    assert done.code == 0, done.err
    assert lcam(*COMMAND, "--fit", fit, "--map-dtype", "float32").code == 0
    maps = {path.name[0]: np.load(path) for path in Path("out/maps").glob("*.npy")}
    assert {name: V.shape for name, V in maps.items()} == {
        "a": (32, 64),
        "b": (32, 64),
        "c": (60, 40),
    }
    np.testing.assert_array_equal(maps["a"], maps["b"])
    with h5py.File("maps.h5") as file:
        V = file["saliency"][0]
    if fit == "crop":
        assert np.isnan(maps["a"][:, :16]).all()
        np.testing.assert_allclose(maps["a"][:, 16:48], V, atol=1e-6)
    else:
        assert np.isfinite(maps["a"]).all()
        even = V[8:24].repeat(2, 0).repeat(2, 1)
        assert np.abs(maps["a"] - even).max() < np.abs(np.diff(V)).max()
    again = lcam("explain", "out", *COMMAND[2:], "--out", "more.h5")
    assert again.code == 2
    assert "no images in out" in again.err, "maps are not taken for pictures"


def test_evaluate_reads_16_bits_and_says_which_folders_it_cannot_read(lcam: Lcam) -> None:
    assert lcam(*COMMAND, "--map-dtype", "float32").code == 0
    done = lcam(*COMMAND, "--out", "fine", "--map-format", "png16")
    assert "next: lcam evaluate fine" in done.err
    net = ("--backbone", "own.py:net", "--format", "json", "--no-floor", "--workers", "1")
    files, folder = lcam("evaluate", "maps.h5", *net), lcam("evaluate", "fine", *net)
    assert folder.code == 0, folder.err
    expected, found = (json.loads(one.out)["rows"][0]["nu"]["50"] for one in (files, folder))
    assert found["ad"] == pytest.approx(expected["ad"], abs=0.01)
    for option, value, instead in (("size", "original", "input"), ("format", "tiff", "png")):
        done = lcam(*COMMAND, "--out", value, f"--map-{option}", value)
        assert "next:" not in done.err
        refused = lcam("evaluate", value, *net)
        assert refused.code == 2
        assert f"were written with --map-{option} {value}" in refused.err
        assert f"--map-{option} {instead}" in refused.err.splitlines()[1]
