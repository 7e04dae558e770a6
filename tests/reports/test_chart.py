"""Where the curves of a report lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.measures.score import Scores
from lcam_cli.reports.chart import chart, value_steps
from lcam_cli.reports.results import Results, Row
from tests.reports.sample import FOUR, nu_score, results, row


@given(st.floats(0, 100), st.floats(0, 100))
def test_steps_are_even_and_reach_around_all_values(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    steps = value_steps(low, high)
    width = steps[1] - steps[0]
    assert 2 <= len(steps) <= 8
    assert steps[0] <= low + 1e-6
    assert steps[-1] >= high - 1e-6
    assert steps == pytest.approx([steps[0] + k * width for k in range(len(steps))], abs=1e-6)


def test_steps_are_round_numbers() -> None:
    assert value_steps(3, 97) == [0, 20, 40, 60, 80, 100]
    assert value_steps(41, 47.5) == [40, 42, 44, 46, 48]


def test_a_line_goes_through_its_values() -> None:
    one = nu_score(20, 5, (10, 30), (0, 10))
    other = nu_score(60, 5, (50, 70), (0, 10))
    measured = Row("cam", Scores({100.0: one, 50.0: other}), 1, 0.5, 1.0)
    drawn = chart(Results("n", "w", "l", 9, 0, "fp32", "cpu", [measured]), "ad")
    (line,) = drawn.lines
    assert [tick.label for tick in drawn.values] == ["0", "20", "40", "60", "80"]
    middle, right = line.dots  # by rising ν
    assert (middle.x, right.x) == ((drawn.left + drawn.right) / 2, drawn.right)
    ten = (drawn.bottom - drawn.top) / 8
    assert [right.low, right.y, right.high] == pytest.approx(
        [drawn.bottom - ten, drawn.bottom - 2 * ten, drawn.bottom - 3 * ten], abs=0.01
    )
    assert middle.y == pytest.approx(drawn.bottom - 6 * ten, abs=0.01)
    assert line.points == f"{middle.x:g},{middle.y:g} {right.x:g},{right.y:g}"
    assert right.says == "cam, ν = 100: 20.00 (10.00 to 30.00)"


def test_methods_are_told_apart_and_the_floor_is_no_rival() -> None:
    hues = [line.hue for line in chart(FOUR, "ic").lines]
    assert hues == ["0", "1", "2", "floor"]
    many = chart(results(*(row(f"m{k}", (k, k), (k, k)) for k in range(10))), "ad")
    styles = {(line.hue, line.dashed) for line in many.lines}
    assert len(styles) == 10
    assert len({line.dots[0].x for line in many.lines}) == 10, "intervals lie side by side"


def test_labels_of_close_nus_do_not_touch() -> None:
    score = nu_score(50, 5, (40, 60), (0, 10))
    nus = (5.0, 6.0, 10.0, 50.0, 100.0)
    measured = Row("cam", Scores(dict.fromkeys(nus, score)), 1, 0.5, 1.0)
    drawn = chart(Results("n", "w", "l", 9, 0, "fp32", "cpu", [measured]), "ad")
    assert len(drawn.nus) == 5
    assert [tick.label for tick in drawn.nus if tick.label] == ["100", "50", "10"]
