"""Results go where ``--out`` says, in the format that the extension says; gates for pipelines."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.cli import job
from tests.cli.job import Lcam

OWN = "from tests.tiny import tiny_network as net\n"
COMMON = 'backbone = "own.py:net"\nimage-size = 32\nbatch-size = 4\n'
SETTINGS = (
    f'[compare]\n{COMMON}methods = "gradcam,gradcam++"\nnu = [50, 15]\n'
    f'[explain]\n{COMMON}method = "gradcam"\n[diagnose]\n{COMMON}method = "gradcam"\n'
    f'[sanity]\n{COMMON}methods = "gradcam"\nstages = 1\n'
    '[evaluate]\nbackbone = "own.py:net"\nnu = [50, 15]\nbatch-size = 4\n'
)

lcam = job.lcam


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images and their maps, as a file and as PNGs."""
    from lcam_cli.__main__ import run
    from lcam_cli.cli.app import lcam_app

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        job.begin(folder, patch, OWN, 8)
        Path("lcam.toml").write_text(SETTINGS)
        for out in ("maps.h5", "pngs"):
            assert run(lcam_app(), ["explain", "photos", "--out", out, "--quiet"]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(file).read_text())
    return content


def test_the_extension_says_the_format(folder: Path, lcam: Lcam) -> None:
    outs = [
        word for name in ("r.json", "r.csv", "r.md", "r.tex", "r.txt") for word in ("--out", name)
    ]
    done = lcam("evaluate", *outs)
    assert (done.code, done.out) == (0, "")
    assert read("r.json")["schema"] == "lcam-results/1"
    assert Path("r.csv").read_text().startswith("method,nu,")
    assert Path("r.md").read_text().startswith("| method | AD(50) ↓ |")
    assert r"\begin{tabular}" in Path("r.tex").read_text()
    assert r"AD(50) $\downarrow$" in Path("r.tex").read_text()
    assert "↓ lower is better" in Path("r.txt").read_text()
    for name in ("r.json", "r.txt"):
        assert f"the result is in {name}\n" in done.err
    assert "next: lcam evaluate maps.h5" in done.err
    again = lcam("evaluate", "--out", "r.csv")
    assert (again.code, again.err.count("r.csv exists")) == (2, 1)


def test_a_dash_is_stdout(folder: Path, lcam: Lcam) -> None:
    done = lcam("evaluate", "--out", "-", "--out", "r.md", "--format", "json")
    assert (done.code, json.loads(done.out)["images"]) == (0, 8)
    assert Path("r.md").read_text().startswith("| method |")
    assert not Path("-").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["evaluate", "--out", "r.json", "--format", "csv"],
            "--format csv and --out r.json disagree",
        ),
        (["evaluate", "--out", "r.png"], "a result cannot be a .png file"),
        (["evaluate", "--out", "r.h5"], "a result cannot be a .h5 file"),
        (["evaluate", "--out", "r.xyz"], ".xyz is not a known format"),
        (["evaluate", "--by-class", "r.txt"], "not written as table"),
        (["compare", "photos", "--out", "a.h5", "--out", "b.h5"], "two files for maps"),
        (["compare", "photos", "--out", "r.png"], "a figure is --figure r.png"),
        (["compare", "photos", "--show", "000.jpg"], "add --figure"),
        (["compare", "photos", "--figure", "f.gif"], "does not end in .png, .pdf or .svg"),
        (["diagnose", "photos", "--labels", "folders", "--out", "r.tex"], "not written as latex"),
        (["explain", "photos", "--out", "x.png"], "pass a folder: --out x"),
        (["explain", "photos", "--out", "x.json"], "lcam evaluate --out FILE"),
        (["evaluate", "--max-ad", "30=5"], "which --nu does not ask for"),
        (["evaluate", "--max-ad", "30,15=5"], "mixes a number for every ν"),
        (["evaluate", "--max-ad", "15=nan"], "nan is not a percentage"),
        (["evaluate", "--worse-than", "b.json"], "add --by X"),
        (["evaluate", "--by", "2"], "add --worse-than"),
        (["evaluate", "--worse-than", "b.json", "--by", "2"], "cannot read --worse-than b.json"),
        (["evaluate", "--worse-than", "lcam.toml", "--by", "2"], "not a result of lcam evaluate"),
        (["evaluate", "photos"], "a folder without info.json"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_meant(
    folder: Path, lcam: Lcam, words: list[str], said: str
) -> None:
    before = sorted(folder.iterdir())
    done = lcam(*words)
    assert (done.code, done.out) == (2, ""), done.err
    assert said in done.err
    assert len([line for line in done.err.splitlines() if not line.startswith("from ")]) <= 2
    assert sorted(folder.iterdir()) == before


def test_a_file_on_the_command_line_wins_over_a_format_in_settings(
    folder: Path, lcam: Lcam
) -> None:
    Path("lcam.toml").write_text(SETTINGS.replace("[evaluate]", '[evaluate]\nformat = "csv"'))
    assert lcam("evaluate", "--out", "r.json").code == 0
    assert read("r.json")["images"] == 8
    assert lcam("evaluate").out.startswith("method,nu,")


def test_compare_keeps_maps_and_tables(folder: Path, lcam: Lcam) -> None:
    words = ("--out", "all.h5", "--out", "r.json", "--figure", "f.pdf", "--by-class", "c.csv")
    done = lcam("compare", "photos", *words, "--show", "003.jpg,001,gradcam")
    assert (done.code, done.out) == (0, ""), done.err
    with h5py.File("all.h5") as file:
        assert set(file) >= {"gradcam", "gradcam++"}
    assert [row["method"] for row in read("r.json")["rows"]] == ["gradcam", "gradcam++", "random"]
    assert Path("f.pdf").read_bytes().startswith(b"%PDF-1.4")
    lines = list(csv.DictReader(Path("c.csv").read_text().splitlines()))
    assert {line["method"] for line in lines} == {"gradcam", "gradcam++"}
    assert sum(int(line["maps"]) for line in lines if line["method"] == "gradcam") == 8
    mean = sum(float(line["ad_50"]) * int(line["maps"]) for line in lines[::2]) / 8
    assert mean == pytest.approx(read("r.json")["rows"][0]["nu"]["50"]["ad"], abs=1e-3)
    sizes = {}
    for name, shown in (("a.png", "003.jpg,gradcam"), ("b.png", "003.jpg,002.jpg,gradcam")):
        assert lcam("compare", "photos", "--figure", name, "--show", shown).code == 0
        sizes[name] = Image.open(name).size
    assert sizes["b.png"][0] > sizes["a.png"][0]
    assert sizes["b.png"][1] == sizes["a.png"][1]
    missing = lcam("compare", "photos", "--figure", "x.png", "--show", "03.jpg")
    assert missing.code == 2
    assert "did you mean" in missing.err


def test_figures_of_a_vector_format_hold_the_same_pixels(tmp_path: Path) -> None:
    import base64
    import io
    import re
    import zlib

    from lcam_cli.reports.sheet import save_figure

    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    sheet = Image.fromarray(pixels)
    for name in ("f.svg", "f.pdf", "f.png"):
        save_figure(sheet, tmp_path / name)
    svg = (tmp_path / "f.svg").read_text()
    assert 'width="0.3in" height="0.2in"' in svg
    inside = re.search(r"base64,([^\"]*)", svg)
    assert inside is not None
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(inside[1]))), pixels)
    pdf = (tmp_path / "f.pdf").read_bytes()
    assert b"/MediaBox [0 0 21.600 14.400]" in pdf
    stream = pdf.split(b"/FlateDecode")[1].split(b"stream\n")[1].split(b"\nendstream")[0]
    assert zlib.decompress(stream) == pixels.tobytes()
    table = int(pdf.split(b"startxref\n")[1].split()[0])
    assert pdf[table:].startswith(b"xref\n0 6\n")
    places = [int(line[:10]) for line in pdf[table:].split(b"\n")[3:8]]
    assert [pdf[at:].split()[0] for at in places] == [b"1", b"2", b"3", b"4", b"5"]


def test_gates_at_each_nu(folder: Path, lcam: Lcam) -> None:
    ads = {nu: scores["ad"] for nu, scores in evaluated(lcam)["rows"][0]["nu"].items()}
    bounds = f"50={ads['50'] + 1},15={ads['15'] - 1}"
    done = lcam("evaluate", "--max-ad", bounds, "--out", "r.json")
    assert done.code == 1
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "gradcam: AD(15) is" in errors[0]
    gates = read("r.json")["gates"]
    assert [(g["gate"], g["nu"], g["passed"]) for g in gates] == [
        ("max-ad", "50", True),
        ("max-ad", "15", False),
    ]
    compared = lcam("compare", "photos", "--min-ic", "15=101", "--format", "json")
    assert compared.code == 1
    found = json.loads(compared.out)["gates"]
    assert [(g["method"], g["passed"]) for g in found] == [("gradcam", False), ("gradcam++", False)]
    assert "gates" not in evaluated(lcam)
    passed = lcam("evaluate", "--max-ad", "100")
    assert passed.code == 0
    assert "all gates passed" in passed.err
    assert "gates" not in lcam("evaluate").err


def evaluated(lcam: Lcam, *words: str) -> dict[str, Any]:
    done = lcam("evaluate", *words, "--format", "json")
    content: dict[str, Any] = json.loads(done.out)
    return content


def test_worse_than_an_earlier_result_by_means(folder: Path, lcam: Lcam) -> None:
    assert lcam("evaluate", "--out", "base.json").code == 0
    words = ("evaluate", "--worse-than", "base.json", "--by", "2")
    same = lcam(*words)
    assert same.code == 0, same.err
    assert "by means, not image by image: it was made without --per-image" in same.err
    base = read("base.json")
    base["rows"][0]["nu"]["15"]["ad"] -= 3.5
    Path("base.json").write_text(json.dumps(base))
    worse = lcam(*words, "--format", "json")
    assert worse.code == 1
    assert "gradcam: AD(15) was" in worse.err
    assert "3.5 points worse; 2 are allowed" in worse.err
    (failed,) = [gate for gate in json.loads(worse.out)["gates"] if not gate["passed"]]
    assert (failed["measure"], failed["nu"], failed["worse_by"], failed["paired"]) == (
        *("ad", "15", 3.5),
        False,
    )
    other = lcam("compare", "photos", "--methods", "layercam", *words[1:])
    assert (other.code, other.out) == (2, "")
    assert "base.json has no layercam, but gradcam" in other.err
    assert lcam(*words, "--keep", "whole").code == 2
    replaced = lcam(*words, "--out", "base.json", "--overwrite")
    assert (replaced.code, read("base.json")) == (2, base)
    assert "--worse-than and --out name the same file" in replaced.err


def test_worse_than_an_earlier_result_image_by_image(folder: Path, lcam: Lcam) -> None:
    made = lcam("compare", "photos", "--out", "base.json", "--per-image", "base.csv")
    assert made.code == 0
    # The baseline's numbers, image by image, of the file that the new run writes as well.
    lines = list(csv.DictReader(Path("base.csv").read_text().splitlines()))
    base = read("base.json")
    assert base["per_image"] == "base.csv"
    for line in lines:
        if line["method"] == "gradcam":
            line["ad_15"] = str(float(line["ad_15"]) - 3)
    write(lines)
    base["rows"][0]["nu"]["15"]["ad"] -= 3
    Path("base.json").write_text(json.dumps(base))
    words = ("compare", "photos", "--worse-than", "base.json", "--by", "2.5", "--format", "json")
    worse = lcam(*words)
    assert worse.code == 1, worse.err
    (failed,) = [gate for gate in json.loads(worse.out)["gates"] if not gate["passed"]]
    # Every image is worse by 3, so nothing is uncertain.
    assert failed["worse_by"] == pytest.approx(3, abs=1e-3)
    assert failed["worse_ci95"] == pytest.approx([3, 3], abs=1e-3)
    assert (failed["images"], failed["paired"]) == (8, True)
    assert "on the same 8 images; 2.5 are allowed" in worse.err
    assert "not image by image" not in worse.err
    # One maps file of the same images is compared with the row of its method.
    alone = lcam("evaluate", "--worse-than", "base.json", "--by", "2.5", "--quiet")
    assert alone.code == 1
    assert "on the same 8 images" in alone.err
    # Of fewer images, the means are compared, and that is said.
    fewer = lcam(*words, "--max-images", "5")
    assert "only 5 of 5 images are the same" in fewer.err
    # Numbers that are not the JSON's own say nothing of it.
    base["rows"][0]["nu"]["15"]["ad"] += 1
    Path("base.json").write_text(json.dumps(base))
    assert "base.csv is of another run" in lcam(*words).err


def write(lines: list[dict[str, str]]) -> None:
    with Path("base.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def test_pngs_are_scored_as_their_maps(folder: Path, lcam: Lcam) -> None:
    of_file = evaluated(lcam)["rows"][0]
    of_pngs = json.loads(lcam("evaluate", "pngs", "--format", "json").out)["rows"][0]
    for nu in ("50", "15"):
        assert of_pngs["nu"][nu]["ad"] == pytest.approx(of_file["nu"][nu]["ad"], abs=0.2)
    assert lcam("evaluate", "pngs/maps", "--nu", "50").code == 0
    png = sorted(Path("pngs/maps").glob("003.jpg.*.png"))[0]
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(png)
    wrong = lcam("evaluate", "pngs")
    assert wrong.code == 2
    assert f"{png} has 16×16 pixels, the first map 32×32" in wrong.err
    Image.new("RGB", (32, 32)).save(png)
    assert f"{png} is not a map" in lcam("evaluate", "pngs").err
    png.unlink()
    assert f"cannot read the map {png}: No such file" in lcam("evaluate", "pngs").err


def test_a_long_comparison_says_so_first(folder: Path, lcam: Lcam, monkeypatch: Any) -> None:
    from lcam_cli.runs import estimate

    monkeypatch.setattr(estimate, "measured_forward", lambda _engine: 1.0)
    words = ("compare", "photos", "--methods", "gradcam,rise", "--rise-masks", "100", "--no-floor")
    done = lcam(*words, "--metrics", "insertion")
    # AD and IC at two ν, the 27 steps; one pass of Grad-CAM, 100 of RISE: 8 × (30 + 129).
    assert "this will take about 21 min: 1,272 forward passes, 81% of them for rise" in done.err
    assert "this will take" not in lcam(*words, "--resume", "--metrics", "insertion").err
