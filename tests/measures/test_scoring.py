"""Measures of other packages: each failure names the measure, and no method is blamed."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.measures.measure import Kept, MapScores, Measure, NuMeasure, Quantity
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import find_measure
from lcam_cli.measures.scoring import MeasureError, numbers_of
from lcam_cli.measures.summary import undefined_counts
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.measures.view import MapView
from lcam_cli.methods.cam import Cam
from tests.packages import Install
from tests.tiny import SMALL, tiny_backbone, write_pictures


class Foreign(NuMeasure):
    """Makes of two scores what a test says."""

    name = title = "kk"
    lower_is_better = False

    def __init__(self, make: Any) -> None:
        self._make = make

    def compare(self, full: Tensor, kept: Tensor) -> Tensor:
        made: Tensor = self._make(full, kept)
        return made


def numbers(make: Any) -> Tensor:
    scores = MapScores(torch.zeros(2, 2, 2), torch.ones(2), {Kept(50.0): torch.full((2,), 0.5)})
    return numbers_of([Quantity(Foreign(make), 50.0)], scores)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda full, kept: None, "did not return a tensor of 2 numbers but a NoneType"),
        (lambda full, kept: 0.5, "did not return a tensor of 2 numbers but a float"),
        (lambda full, kept: kept.numpy(), "did not return a tensor of 2 numbers but a ndarray"),
        (lambda full, kept: kept[:1], r"returned numbers of shape \(1,\), not \(2,\)"),
        (lambda full, kept: sys.exit(3), r"failed: it called sys.exit\(3\)"),
        (lambda full, kept: full.zero_(), "writes in place to scores.full, which"),
        (lambda full, kept: kept.zero_(), r"writes in place to scores\[Kept\(nu=50.0\)\], which"),
    ],
)
def test_what_is_no_number_a_map_is_refused(make: Any, why: str) -> None:
    with pytest.raises(MeasureError, match=f"^the measure kk {why}"):
        numbers(make)


def test_booleans_and_integers_are_numbers_and_infinity_is_none() -> None:
    assert numbers(lambda full, kept: kept < full).tolist() == [[1, 1]]
    assert numbers(lambda full, kept: full.long()).tolist() == [[1, 1]]
    lost = numbers(lambda full, kept: full * math.inf)
    assert lost.isnan().all()
    assert undefined_counts([Quantity(Foreign(None), 50.0)], lost.numpy()) == {"kk": 2}


@dataclass(frozen=True)
class Breaks:
    """Fails in one of several ways."""

    how: str

    def scores(self, view: MapView) -> Any:
        match self.how:
            case "raises":
                raise KeyError("mine")
            case "shape":
                return view.full[:1]
            case "pictures":
                view.batch.x.zero_()
            case "classifier":
                view.batch.engine.backbone.network.train()
        return view.full


class Wants(Measure):
    name = title = "kk"
    lower_is_better = True

    def __init__(self, wanted: Any) -> None:
        self._wanted = wanted

    def perturbations(self, nu: float) -> Any:
        return self._wanted

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        return scores.full


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (None, "failed: TypeError: 'NoneType' object is not iterable"),
        ([[]], "failed: TypeError: .*unhashable type: 'list'"),
        (["x"], "failed: AttributeError: 'str' object has no attribute 'scores'"),
        ([Breaks("raises")], r"failed: KeyError: 'mine' \(.*test_scoring.py, line"),
        (
            [Breaks("shape")],
            r"has scores of a perturbation that are not a tensor \(..., 3\): \(1,\)",
        ),
        ([Breaks("pictures")], "writes in place to view.batch.x, which"),
        ([Breaks("classifier")], "changes the classifier's mode"),
    ],
)
def test_a_comparison_names_the_measure_and_not_the_methods(
    tmp_path: Any, wanted: Any, why: str
) -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    task = Task(write_pictures(tmp_path, 3), nus=(50.0,), measures=[Wants(wanted)])
    cam = Candidate("cam", Cam(engine.backbone), PictureScores.empty(task, SMALL.input_shape[1:]))
    with pytest.raises(MeasureError, match=f"^the measure kk {why}"):
        sweep(engine, [cam], task, workers=1)
    assert not cam.failed


FINE = """
from lcam_cli.measures.measure import NuMeasure
class Fine(NuMeasure):
    name = "kk"
    title = "KK"
    lower_is_better = False
    def compare(self, full, kept):
        return kept
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('title = "KK"', "", "its title is missing, not text"),
        ('"KK"', "3", "its title is 3, not text"),
        ("lower_is_better = False", "", "its lower_is_better is missing, not True or False"),
        ("compare", "compares", "failed: TypeError: Can't instantiate abstract class Fine"),
        ("def compare", "def __init__(self): 1 / 0\n    def compare", r"failed: Zero.* line 7\)"),
        ('"KK"', '"KK"; left_out = "{map} lost"', "failed: KeyError: 'map'"),
        ('"KK"', '"KK"; settings = {"a": object()}', "failed: TypeError: Object of type object"),
        ("from", "import sys; sys.exit(5)\nfrom", r"does not load: it called sys.exit\(5\)"),
    ],
)
def test_what_a_measure_says_is_checked_before_anything_runs(
    install: Install, old: str, new: str, why: str
) -> None:
    install("lcam_kk", FINE.replace(old, new), {"kk": "lcam_kk:Fine"})
    with pytest.raises(LcamError, match=rf"^the plug-in measure 'kk' \(lcam_kk:Fine\).* {why}"):
        find_measure("kk")
