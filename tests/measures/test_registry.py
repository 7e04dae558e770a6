"""Which measures there are, and those that other packages bring."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch

from lcam_cli.errors import LcamError
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.measure import MapScores, Measure, NuMeasure, Quantity
from lcam_cli.measures.registry import (
    ALWAYS,
    MEASURES,
    check_measure,
    find_measure,
    known_measures,
    make_measures,
)
from lcam_cli.measures.scoring import numbers_of
from tests.conftest import ROOT
from tests.packages import Install

FINE = """
from lcam_cli.measures.measure import NuMeasure
class Fine(NuMeasure):
    name = title = "fine"
    lower_is_better = False
    def compare(self, full, kept):
        return kept - full
"""


def test_names_titles_and_directions_are_known_without_torch() -> None:
    code = (
        "import sys; from lcam_cli.measures.registry import *; "
        "made = make_measures(MEASURES, objects=True); "
        "print(*(f'{m.name}:{m.title}:{m.lower_is_better}' for m in made)); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert [one.partition(":")[0] for one in said] == list(MEASURES)
    assert {
        *("ad:AD:True", "ic:IC:False", "insertion:insertion:False", "deletion:deletion:True"),
    } <= set(said)


def test_measures_are_called_what_the_registry_calls_them() -> None:
    assert [measure.name for measure in MEASURES.values()] == list(MEASURES)
    assert [one.name for one in make_measures(["deletion", "ic", "deletion"])] == [
        *(*ALWAYS, "deletion"),
    ]


def test_an_unknown_name_is_met_with_those_there_are() -> None:
    with pytest.raises(LcamError, match="'insertio' is not a measure") as unknown:
        check_measure("insertio")
    assert unknown.value.hint == "did you mean insertion, pointing, deletion?"
    with pytest.raises(LcamError) as unknown:
        find_measure("xyz")
    assert unknown.value.hint == f"choose from {', '.join(MEASURES)}."
    with pytest.raises(LcamError, match="'' is not a measure") as unknown:  # "ad,,ic"
        check_measure("")
    assert unknown.value.hint == f"choose from {', '.join(MEASURES)}."


def test_a_package_brings_a_measure_and_only_the_one_that_is_named_is_loaded(
    install: Install,
) -> None:
    install("lcam_broken", "raise RuntimeError('two\\nlines')", {"broken": "lcam_broken:Any"})
    install("lcam_fine", FINE, {"fine": "lcam_fine:Fine"})
    assert known_measures() == [*MEASURES, "broken", "fine"]
    assert find_measure("fine").title == "fine"
    with pytest.raises(LcamError, match=r"'broken' \(lcam_broken:Any\) does not load: Runtime"):
        find_measure("broken")


@pytest.mark.parametrize("value", ["function", "Other"])
def test_what_is_no_measure_of_that_name_is_refused(install: Install, value: str) -> None:
    code = FINE.replace("Fine", "Other") + "def function(): pass\n"
    install("lcam_odd", code, {"odd": f"lcam_odd:{value}"})
    with pytest.raises(LcamError, match=f"lcam_odd:{value} is not a measure called 'odd'"):
        find_measure("odd")


def test_names_of_our_own_stay_ours(
    install: Install, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("lcam"), "propagate", True)
    install("lcam_thief", FINE.replace('"fine"', '"ad"'), {"ad": "lcam_odd:Fine"})
    with caplog.at_level(logging.WARNING, "lcam"):
        assert known_measures() == list(MEASURES)
    assert isinstance(find_measure("ad"), AverageDrop)
    assert "has a name that lcam itself uses" in caplog.text


class Odd(NuMeasure):
    """Fails, or gives one number too many."""

    name = title = "odd"
    lower_is_better = True

    def compare(self, full: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        if len(full) == 1:
            raise ZeroDivisionError("two\nlines")
        return torch.cat([full, kept])


@pytest.mark.parametrize(("rows", "why"), [(1, "failed: ZeroDivisionError"), (2, r"\(4,\), not")])
def test_a_measure_of_another_package_that_fails_is_named(rows: int, why: str) -> None:
    measure: Measure = Odd()
    (wanted,) = measure.perturbations(50.0)
    scores = MapScores(torch.zeros(rows, 2, 2), torch.ones(rows), {wanted: torch.ones(rows)})
    with pytest.raises(LcamError, match=f"the measure odd .*{why}"):
        numbers_of([Quantity(measure, 50.0)], scores)


def test_the_state_of_a_comparison_knows_how_its_measures_are_set() -> None:
    assert find_measure("insertion").settings == {"steps": 28}
    assert find_measure("ad").settings == {}
