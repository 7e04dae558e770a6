"""The benchmark of sham methods: their maps, and its table of them by every measure."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.measures.measure import quantities
from lcam_cli.measures.registry import make_measures
from tests.conftest import ROOT
from tests.tiny import tiny_backbone, write_pictures

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def shams(benchmarks: None) -> ModuleType:
    import shams

    return shams


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


def explained(sham: type, engine: Engine, x: torch.Tensor) -> np.ndarray:
    forward: Forward = engine.forward(x)
    V = sham()(engine, forward, forward.predicted).saliency
    assert V.shape == (len(x), *x.shape[2:])
    assert (V >= 0).all()
    assert (V <= 1).all()
    return V.numpy()


def test_flat_shams_hide_everything_or_nothing(shams: ModuleType, engine: Engine) -> None:
    x = torch.rand(2, 3, 32, 32)
    assert (explained(shams.Black, engine, x) == 0).all()
    assert (explained(shams.Frame, engine, x) == 1).all()


def test_noise_is_the_same_for_all_pictures(shams: ModuleType, engine: Engine) -> None:
    first = explained(shams.Noise, engine, torch.rand(2, 3, 32, 32))
    again = explained(shams.Noise, engine, torch.zeros(1, 3, 32, 32))
    assert (first == again).all()
    assert len(np.unique(again)) > 1000


def test_mean_colour_against_the_definition(shams: ModuleType, engine: Engine) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for V, X in zip(explained(shams.MeanColour, engine, x), x.numpy(), strict=True):
        mean = [X[c].mean() for c in range(3)]
        distance = np.sqrt(sum((X[c] - mean[c]) ** 2 for c in range(3)))
        np.testing.assert_allclose(V, distance / distance.max(), atol=1e-6)
    assert (explained(shams.MeanColour, engine, torch.full((1, 3, 32, 32), 0.5)) == 0).all()


def test_edges_lie_where_the_picture_changes(shams: ModuleType, engine: Engine) -> None:
    x = torch.zeros(1, 3, 32, 32)
    x[..., 20:] = 1  # a step from column 19 to column 20
    (V,) = explained(shams.Edges, engine, x)
    assert (V[:, 19:21] == 1).all()
    assert (np.delete(V, [19, 20], 1) == 0).all()
    # A ramp to the right and down: the same slopes of Sobel's kernels, 8 times the step.
    ramp = (torch.arange(32)[:, None] * 0.02 + torch.arange(32) * 0.01).expand(1, 3, 32, 32)
    (V,) = explained(shams.Edges, engine, ramp.contiguous())
    np.testing.assert_allclose(V[1:-1, 1:-1], 1, atol=1e-5)


def test_bright_has_the_order_of_gradcam(shams: ModuleType, engine: Engine) -> None:
    from lcam_cli.methods.gradient import GradCam

    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    bright, plain = explained(shams.Bright, engine, x), explained(GradCam, engine, x)
    np.testing.assert_allclose(bright, plain**0.2, atol=1e-6)
    assert bright.mean() > plain.mean()


def test_the_table_has_all_shams_and_all_measures(
    tmp_path: Path,
    benchmarks: None,
    shams: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sham_measures

    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 4)
    sham_measures.main(["photos", "--backbone", "own.py:net", "--image-size", "32"])
    out = capsys.readouterr().out
    assert "4 images" in out
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    head, body = lines[0], {cells[0]: cells[1:] for cells in lines[2:]}
    names = [sham.name for sham in shams.SHAMS]
    assert names == ["black", "frame", "noise", "mean-colour", "edges", "bright"]
    assert head == ["measure", *names, "gradcam", "gradcam++", "cam", "random"]
    nus = (100, 50, 15)
    assert [title.split(" ")[0] for title in body] == [
        *(
            f"{q.measure.title}({q.nu:g})" if q.nu else q.measure.title
            for q in quantities(make_measures(["all"]), nus)
        ),
        *(f"{name}({nu})" for name in ("AD", "IC", "AG") for nu in nus[1:]),
    ]

    def numbers(title: str) -> dict[str, float]:
        shown = [re.sub(r"[*≈]", "", cell).replace("–", "nan") for cell in body[title]]
        return dict(zip(head[1:], map(float, shown), strict=True))

    assert (numbers("AD(100) ↓")["frame"], numbers("IC(100) ↑")["frame"]) == (0, 0)
    assert numbers("complexity ↓")["black"] == 0
    assert numbers("complexity ↓")["frame"] == 100
    # Kept whole, a flat map shows the first half of the rows, black or bright, and a map that is
    # only brighter shows what Grad-CAM does.
    whole = numbers("AD(50) ↓, kept whole")
    assert whole["black"] == whole["frame"] == numbers("AD(50) ↓")["frame"]
    assert whole["bright"] == whole["gradcam"]
    assert numbers("AD(50) ↓")["bright"] != numbers("AD(50) ↓")["gradcam"]
    assert "These measures rank a sham significantly above Grad-CAM:" in out
    assert all(title in out.partition("rank a sham")[2] for title in body)


def line(benchmarks: ModuleType, sham: tuple[float, float, float], lower: bool) -> object:
    """A line where Grad-CAM has 50 and `noise` differs by ``sham``: mean, low and high."""
    from lcam_cli.measures.score import Difference, Score

    there = Score(50 + sham[0], (0, 100), Difference(sham[0], sham[1:]))
    scores = dict.fromkeys((*benchmarks.NAMES, "random"), Score(None, None))
    return benchmarks.Line("M", 1, 1 if lower else -1, scores | {"noise": there})


def test_a_sham_is_marked_by_its_difference_to_gradcam(benchmarks: None) -> None:
    import sham_measures as b

    assert line(b, (-5, -8, -2), True).cell("noise") == "**45.0**"
    assert line(b, (-5, -8, -2), False).cell("noise") == "45.0"
    assert line(b, (5, 2, 8), False).cell("noise") == "**55.0**"
    assert line(b, (5, -2, 8), False).cell("noise") == "55.0≈"
    assert line(b, (5, -2, 8), False).cell("black") == "–"
    lines = [line(b, (-5, -8, -2), True), line(b, (5, -2, 8), True), line(b, (5, 2, 8), True)]
    above, unsure, below = re.split("\nThese", b.summary(lines))
    assert "- M: noise" in above
    assert "- M: noise" in unsure
    assert below.splitlines()[0].endswith("below: M.")
