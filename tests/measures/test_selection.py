"""Choosing among candidates: numbers by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from lcam_cli.measures.drops import Drop
from lcam_cli.measures.selection import DROPS, SHOWN, Selection, select
from lcam_cli.reports.selection import selection_lines

PICTURES = 40


def drops(*means: float, spread: float = 10.0) -> NDArray[np.float64]:
    """AD of 40 images, the same ones hard for all; its mean at each of DROPS is as given."""
    hard = np.linspace(-spread, spread, PICTURES)
    return np.array(means)[:, None] + hard


def selected(**means: float) -> Selection:
    candidates = {name: drops(*[mean] * 7) for name, mean in means.items()}
    found = select(candidates, drops(90, 80), "start", seed=0)
    assert found is not None
    return found


def test_the_mean_of_all_seven_decides() -> None:
    start = drops(30, 50, 70, 80, 40, 60, 70)  # 400/7
    bright = drops(10, 44, 72, 82, 52, 66, 74)  # 400/7 as well: brightness alone wins nothing
    placed = drops(31, 49, 69, 80, 38, 58, 70)  # 395/7
    assert sum((30, 50, 70, 80, 40, 60, 70)) == sum((10, 44, 72, 82, 52, 66, 74)) == 400
    found = select(
        {"start": start, "bright": bright, "placed": placed}, drops(90, 80), "start", seed=0
    )
    assert found is not None
    assert (found.chosen, found.learned) == ("placed", "placed")
    one = found.candidates["placed"]
    assert one.mean is not None
    assert one.mean.mean == pytest.approx(395 / 7)
    assert one.from_start is not None
    # The same on every image: pairing leaves no doubt, however much images differ.
    assert one.from_start.mean == pytest.approx(-5 / 7)
    assert one.from_start.ci95 == pytest.approx((-5 / 7, -5 / 7))
    assert one.mean.ci95 is not None
    assert one.mean.ci95[1] - one.mean.ci95[0] > 2
    assert one.drops[Drop(25.0, "whole")].mean == pytest.approx(58)
    assert found.paid
    assert found.candidates["start"].from_start is None
    assert found.random.drops[Drop(50.0, "whole")].mean == pytest.approx(80)


def test_of_equal_ones_what_was_learned_is_taken() -> None:
    found = selected(start=50, learned=50)
    assert found.chosen == "learned"
    assert not found.paid
    assert selected(start=50, learned=50 + 1e-12).chosen == "learned", "rounding"
    assert selected(start=50, learned=50.01).chosen == "start"
    assert selected(start=50, learned=49.99).chosen == "learned"


def test_better_by_chance_is_taken_but_has_not_paid() -> None:
    start = drops(*[50] * 7)
    noise = np.random.default_rng(0).normal(0, 20, PICTURES)
    learned = start - 0.5 + (noise - noise.mean())
    found = select({"start": start, "learned": learned}, drops(90, 80), "start", seed=0)
    assert found is not None
    assert found.chosen == "learned"
    assert not found.paid


def test_all_are_judged_on_the_pictures_that_all_have() -> None:
    start, learned, random = drops(*[50] * 7), drops(*[40] * 7), drops(90, 80)
    start[:, 0] = np.nan
    learned[3, 1] = np.nan
    random[1, 2] = np.nan
    learned[:, 3] = 1000.0
    found = select({"start": start, "learned": learned}, random, "start", seed=0)
    assert found is not None
    assert (found.kept_aside, found.pictures) == (PICTURES, PICTURES - 3)
    assert found.chosen == "start", "picture 3 is one of them"
    learned[:, :] = np.nan
    assert select({"start": start, "learned": learned}, random, "start", seed=0) is None


def test_the_record() -> None:
    found = json.loads(json.dumps(selected(start=57.25, learned=52.125).to_json()))
    assert found["kept_aside"] == found["pictures"] == PICTURES
    assert (found["chosen"], found["paid"]) == ("learned", True)
    learned = found["candidates"]["learned"]
    assert learned["mean_ad"]["mean"] == 52.125
    assert learned["from_start"] == {"mean": -5.125, "ci95": [-5.125, -5.125]}
    assert list(learned["ad"]) == ["100", "50", "25", "15"]
    assert list(learned["ad_whole"]) == ["50", "25", "15"]
    assert "from_start" not in found["candidates"]["start"]
    assert list(found["random"]) == ["ad", "ad_whole"]
    assert found["random"]["ad_whole"]["50"]["mean"] == 80


def test_the_closing_lines() -> None:
    assert set(SHOWN) < set(DROPS)
    heading, learned, start, random, verdict = selection_lines(selected(start=57.25, learned=52))
    assert heading.startswith("on 40 images kept aside, Average Drop")
    assert learned.startswith("  learned           52.0 [")
    assert start.startswith("  where it started  57.2 [")
    assert random.startswith("  random            90.0 [")
    assert random.endswith("kept whole 80.0")
    assert len({line.index("kept whole") for line in (learned, start, random)}) == 1
    assert verdict == (
        "training paid: over all ν, Average Drop is 5.2 points [5.2, 5.2] lower than where it "
        "started"
    )


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ({"start": 50, "learned": 50}, "training did not clearly pay: "),
        ({"start": 50, "learned": 52}, "training did not pay: "),
        ({"start": 50, "learned": 48}, "training paid: "),
    ],
)
def test_the_verdicts(means: dict[str, float], words: str) -> None:
    lines = selection_lines(selected(**means))
    assert lines[-1].startswith(words)
    kept = "2.0 points [2.0, 2.0] higher than where it started, so the start is kept"
    assert lines[-1].endswith(kept) == ("did not pay" in words)
    assert lines[-1].endswith("may be chance") == ("clearly" in words)


def test_few_pictures_are_said_to_tell_little() -> None:
    candidates = {"start": drops(*[50] * 7)[:, :4], "learned": drops(*[40] * 7)[:, :4]}
    found = select(candidates, drops(90, 80)[:, :4], "start", seed=0)
    assert found is not None
    assert selection_lines(found)[-1].endswith(
        "than where it started; 4 images are few for this comparison"
    )
