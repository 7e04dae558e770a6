"""The rules of the three groups, by hand and on anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.measures.error_groups import DEFAULT_RULES, Evidence, Group, Rules, group_of

SHARES = st.floats(0, 1)
EVIDENCES = st.builds(Evidence, SHARES, SHARES, SHARES, SHARES, SHARES)
RULES = st.builds(Rules, st.just(25.0), SHARES, SHARES)


@pytest.mark.parametrize(
    ("true", "predicted", "overlap", "true_kept", "predicted_kept", "group"),
    [
        # "cap" against "coffee mug": one object, both names fit.
        (0.30, 0.60, 0.80, 0.20, 0.50, Group.RELATED),
        # The same, and its own region even recovers the true class.
        (0.30, 0.60, 0.80, 0.50, 0.20, Group.RELATED),
        # A screw beside a screwdriver: with only the screw to see, it wins.
        (0.10, 0.70, 0.10, 0.60, 0.05, Group.SEVERAL),
        # As before, and in the whole image the true class was hardly there.
        (0.001, 0.90, 0.10, 0.60, 0.05, Group.SEVERAL),
        # An empty soup bowl: nothing speaks for it anywhere, wherever its map lies.
        (0.01, 0.90, 0.10, 0.02, 0.30, Group.BIAS),
        (0.01, 0.90, 0.95, 0.02, 0.30, Group.BIAS),
        # More than the predicted class on its own region, but both next to nothing.
        (0.01, 0.90, 0.10, 0.02, 0.01, Group.BIAS),
        # Some evidence in the whole image, but its own region alone does not carry it.
        (0.20, 0.60, 0.10, 0.05, 0.40, Group.BIAS),
        # At the thresholds: half of the region is the same one, a tenth of 0.5 is evidence.
        (0.05, 0.50, 0.50, 0.00, 0.00, Group.RELATED),
        (0.0499, 0.50, 0.50, 0.00, 0.00, Group.BIAS),
        (0.05, 0.50, 0.4999, 0.00, 0.00, Group.BIAS),
    ],
)
def test_cases_by_hand(
    true: float,
    predicted: float,
    overlap: float,
    true_kept: float,
    predicted_kept: float,
    group: Group,
) -> None:
    evidence = Evidence(true, predicted, overlap, true_kept, predicted_kept)
    assert group_of(evidence, DEFAULT_RULES) is group


@given(EVIDENCES, RULES)
def test_a_group_means_what_it_says(found: Evidence, rules: Rules) -> None:
    group = group_of(found, rules)
    enough = max(found.true_score, found.true_kept) >= rules.evidence * found.predicted_score
    same = found.overlap >= rules.same_region
    assert (group is Group.RELATED) == (enough and same)
    assert (group is Group.SEVERAL) == (enough and not same and found.recovered)


@given(EVIDENCES, RULES, SHARES)
def test_more_evidence_never_makes_a_bias(found: Evidence, rules: Rules, more: float) -> None:
    """Whatever the true class scores more, on its region or in the image, speaks against it."""
    if group_of(found, rules) is not Group.BIAS:
        for changed in (
            replace(found, true_kept=max(found.true_kept, more)),
            replace(found, true_score=max(found.true_score, more)),
        ):
            assert group_of(changed, rules) is not Group.BIAS


def test_groups_have_names_for_people() -> None:
    assert [group.words for group in Group] == [
        "same region",
        "right on own region",
        "too little evidence",
    ]
