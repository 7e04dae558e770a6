"""Which thresholds are missed, and how it is told."""

from __future__ import annotations

import dataclasses

from lcam_cli.measures.score import Scores
from lcam_cli.reports.chart import chart
from lcam_cli.reports.columns import UNDEFINED, columns
from lcam_cli.reports.gates import Threshold, check_gates
from lcam_cli.reports.results import Results
from lcam_cli.reports.table import caption
from tests.reports.sample import FOUR, nu_score, results, row


def missed(
    results: Results, max_ad: Threshold | None = None, min_ic: Threshold | None = None
) -> list[str]:
    return [gate.words for gate in check_gates(results, max_ad, min_ic) if not gate.passed]


def test_each_miss_names_method_nu_value_and_limit() -> None:
    assert missed(FOUR, max_ad=80, min_ic=4.2) == [
        "gradcam: AD(12.5) is 84.15, above 80",
        "gradcam: IC(12.5) is 2.20, below 4.2",
    ]


def test_meeting_a_threshold_exactly_is_enough() -> None:
    assert missed(results(row("gradcam", (30.0, 20.0))), max_ad=30, min_ic=20) == []


def test_nothing_asked_nothing_missed() -> None:
    assert missed(FOUR) == []


def test_a_threshold_may_be_for_one_nu_alone() -> None:
    assert missed(FOUR, max_ad={12.5: 80, 100: 33}) == ["gradcam: AD(12.5) is 84.15, above 80"]
    assert missed(FOUR, min_ic={100: 30}) == ["gradcam: IC(100) is 22.10, below 30"]
    (gate, *_) = check_gates(FOUR, max_ad={12.5: 80})
    assert gate.to_dict() == {
        **{"gate": "max-ad", "method": "lcam-img", "measure": "ad", "nu": "12.5"},
        **{"value": 78.14, "bound": 80, "passed": True},
    }


def test_random_is_not_gated() -> None:
    assert missed(results(row("random", (99.0, 0.0))), max_ad=1, min_ic=99) == []


def test_a_miss_too_small_to_show_still_shows() -> None:
    (message,) = missed(results(row("gradcam", (30.00001, 20.0))), max_ad=30)
    assert "30.00001" in message


def test_what_is_undefined_misses_its_threshold_and_no_other() -> None:
    nothing = nu_score(None, 40.0, None, (38.0, 42.0))
    undefined = dataclasses.replace(row("gradcam"), scores=Scores({100.0: nothing, 50.0: nothing}))
    measured = dataclasses.replace(
        results(undefined, row("rise", (12.0, 41.0))), undefined={"ad": 2}
    )
    found = missed(measured, max_ad=100, min_ic=40)
    assert [message.partition(",")[0] for message in found] == [
        "gradcam: AD(100) is not defined",
        "gradcam: AD(50) is not defined",
    ]
    assert missed(measured, min_ic=40) == []
    # It is shown as such, ranks nobody, and has no place in the drawing.
    ad = columns(measured).at_nus[0][0]
    assert (ad.cells, ad.ranks, ad.intervals[0]) == ([UNDEFINED, "12.00"], [0, 0], "")
    assert "AD: 2 maps of score 0 skipped" in caption(measured)
    assert [len(line.dots) for line in chart(measured, "ad").lines] == [0, 1]
    only = chart(results(undefined), "ad")
    assert [tick.label for tick in only.values][:1] == ["0"]
