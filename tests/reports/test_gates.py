"""Which thresholds are missed, and how it is told."""

from __future__ import annotations

from lcam_cli.reports.gates import check_gates
from tests.reports.sample import FOUR, results, row


def test_each_miss_names_method_nu_value_and_limit() -> None:
    assert check_gates(FOUR, max_ad=80, min_ic=4.2) == [
        "gradcam: AD(12.5) is 84.15, above 80",
        "gradcam: IC(12.5) is 2.20, below 4.2",
    ]


def test_meeting_a_threshold_exactly_is_enough() -> None:
    assert check_gates(results(row("gradcam", (30.0, 20.0))), max_ad=30, min_ic=20) == []


def test_nothing_asked_nothing_missed() -> None:
    assert check_gates(FOUR) == []


def test_random_is_not_gated() -> None:
    assert check_gates(results(row("random", (99.0, 0.0))), max_ad=1, min_ic=99) == []


def test_a_miss_too_small_to_show_still_shows() -> None:
    (message,) = check_gates(results(row("gradcam", (30.00001, 20.0))), max_ad=30)
    assert "30.00001" in message
