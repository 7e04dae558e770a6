"""What docs/add-a-measure.md shows, carried out: the package, and what is printed with it."""

from __future__ import annotations

import csv
import io
import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.engine.engine import Engine
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.registry import find_measure
from lcam_cli.methods.cam import Cam
from tests.conftest import ROOT
from tests.docs.blocks import Block, blocks_of
from tests.packages import Install
from tests.tiny import tiny_backbone, write_pictures

Compare = Callable[..., str]
PICTURES = 5


def block(note: str) -> Block:
    return next(b for b in blocks_of(ROOT / "docs" / "add-a-measure.md") if note in b.note)


@pytest.fixture
def _package(install: Install) -> None:
    """The page's package, installed."""
    points = tomllib.loads(block("pyproject.toml").code)["project"]["entry-points"]
    ((name, where),) = points["lcam.measures"].items()
    module = where.partition(":")[0]
    install(module, block(f"{module}.py").code, {name: where})


@pytest.fixture
def compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compare:
    """The page's command on the tiny network, with some options more; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network\nnet = tiny_network\n")
    write_pictures(tmp_path / "photos", PICTURES)
    page = " ".join(block("test_add_a_measure.py").code.split()).removeprefix("lcam ")
    words = page.replace(
        "resnet50", "own.py:net --image-size 32 --resize 36 --layer 3 --device cpu"
    ).split()

    def run_here(*more: str) -> str:
        capsys.readouterr()
        assert run(lcam_app(), [*words, "--methods", "cam,random", "--workers", "1", *more]) == 0
        return capsys.readouterr().out

    return run_here


@pytest.mark.usefixtures("_package")
def test_by_hand() -> None:
    lod = find_measure("lod")
    # From 4:1 to 1:1; the score rises; a score of 1 has no odds.
    full, kept = torch.tensor([0.8, 0.5, 1.0]), torch.tensor([0.5, 0.8, 0.5])
    numbers = lod.compare(full, kept).tolist()  # type: ignore[attr-defined]
    assert numbers[:2] == pytest.approx([math.log(4), -math.log(4)], abs=1e-6)
    assert not math.isfinite(numbers[2])


@pytest.mark.usefixtures("_package")
def test_the_command_prints_the_number_that_the_formula_gives(
    compare: Compare, tmp_path: Path
) -> None:
    results = json.loads(compare("--format", "json", "--nu", "100,20"))
    assert results["undefined"] == {"ad": 0, "lod": 0}
    cam = next(row for row in results["rows"] if row["method"] == "cam")

    engine = Engine(tiny_backbone(), device="cpu", precision="fp32")
    paths = sorted(str(path) for path in (tmp_path / "photos").iterdir())
    views = next(stream_batches(paths, engine.backbone.preprocess, PICTURES, workers=1)).images
    forward = engine.forward(engine.pixels(views))
    classes = forward.predicted
    V = Cam(engine.backbone)(engine, forward, classes).saliency
    for nu, at_nu in cam["nu"].items():
        drops = []
        for k in range(PICTURES):
            highest = V[k].flatten().sort(descending=True, stable=True).indices
            shown = torch.zeros(32 * 32)
            shown[highest[: round(float(nu) / 100 * 32 * 32)]] = 1
            x = forward.x[k] * V[k] * shown.view(32, 32)
            Y = float(forward.scores[k, classes[k]])
            O = float(engine.scores(x[None])[0, classes[k]])  # noqa: E741
            drops.append(math.log(Y / (1 - Y)) - math.log(O / (1 - O)))
        assert at_nu["lod"] == pytest.approx(sum(drops) / PICTURES, abs=1e-4)
        assert at_nu["lod_ci95"][0] <= at_nu["lod"] <= at_nu["lod_ci95"][1]
        assert list(at_nu)[:6] == ["ad", "ic", "lod", "ad_ci95", "ic_ci95", "lod_ci95"]
    assert all(at_nu["lod"] != 0 for at_nu in cam["nu"].values()), "else nothing was measured"
    assert cam["nu"]["20"]["lod_diff_to_best"] == 0


@pytest.mark.usefixtures("_package")
def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lcam_app(), ["evaluate", "--list-metrics", "--format", "json"]) == 0
    lod = json.loads(capsys.readouterr().out)["metrics"][-1]
    assert (lod["name"], lod["title"], lod["better"], lod["per_nu"]) == ("lod", "LOD", "low", True)


def test_one_that_does_not_load_is_left_out_of_the_list(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken_measure", "raise OSError('no such luck')", {"broken": "broken_measure:Broken"})
    assert run(lcam_app(), ["compare", "--list-metrics"]) == 0
    shown = capsys.readouterr()
    assert "broken" not in shown.out
    assert "sparseness" in shown.out
    assert "warning: skipped broken: " in shown.err


@pytest.mark.usefixtures("_package")
def test_every_form_of_the_result_has_it(compare: Compare, tmp_path: Path) -> None:
    head = compare("--format", "markdown", "--nu", "100,20", "--report", "report").splitlines()[0]
    assert "| AD(100) ↓ | IC(100) ↑ | LOD(100) ↓ | AD(20) ↓ | IC(20) ↑ | LOD(20) ↓ |" in head
    (line, *_) = csv.DictReader(io.StringIO(compare("--format", "csv", "--resume")))
    assert {"lod", "lod_low", "lod_high", "lod_diff_to_best"} <= line.keys()
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<dt>LOD(ν)</dt> <dd>How much the log-odds of the score fall on average: lower" in (
        " ".join(page.split())
    )
    assert "Drop in log-odds" in page


def test_the_change_to_the_registry_fits_it() -> None:
    """Its context is what stands there, in that order."""
    lines = (ROOT / "lcam_cli" / "measures" / "registry.py").read_text().splitlines()
    diff = block("registry.py").code.splitlines()
    context = [line[1:] for line in diff if line.startswith(" ") and line != " …"]
    places = [lines.index(line) for line in context]
    assert places == sorted(places)
    assert sum(line.startswith("+") for line in diff) == 2
