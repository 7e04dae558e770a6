"""Mistakes put together by class, and the order of suspicion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.measures.diagnose import Mistake
from lcam_cli.measures.error_groups import Evidence, Group
from lcam_cli.measures.suspicion import class_errors
from lcam_cli.measures.wilson import lower_bound

NOTHING = Evidence(0, 0, 0, 0, 0)
MISTAKES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(Group)).filter(
        lambda m: m[0] != m[1]
    )
)


def mistakes(*found: tuple[int, int, Group]) -> list[Mistake]:
    return [Mistake(f"{i}.jpg", t, p, NOTHING, g) for i, (t, p, g) in enumerate(found)]


def test_wilsons_bound_by_hand() -> None:
    # 8 of 10: (0.8 + 0.19207 - 1.95996·sqrt(0.016 + 0.0096036)) / 1.38415
    assert lower_bound(8, 10) == pytest.approx(0.49016, abs=1e-4)
    assert lower_bound(1, 1) == pytest.approx(0.20655, abs=1e-4)
    assert lower_bound(0, 10) == 0
    assert lower_bound(0, 0) == 0


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_bound_is_below_the_share_and_rises_with_the_pictures(hits: int, more: int) -> None:
    trials = hits + more
    assert 0 <= lower_bound(hits, trials) <= hits / trials
    assert lower_bound(10 * hits, 10 * trials) >= lower_bound(hits, trials)


def test_a_class_by_hand() -> None:
    found = class_errors(
        [10, 4, 0],
        mistakes(
            (0, 1, Group.BIAS),
            (0, 1, Group.BIAS),
            (0, 2, Group.RELATED),
            (1, 0, Group.SEVERAL),
            (1, 0, Group.RELATED),
        ),
    )
    rows = {row.class_index: row for row in found}
    first = rows[0]
    assert (first.pictures, first.errors, first.recall) == (10, 3, pytest.approx(0.7))
    assert first.groups == {Group.RELATED: 1, Group.SEVERAL: 0, Group.BIAS: 2}
    assert first.mistaken_for == [(1, 2), (2, 1)]
    assert (first.false_alarms, first.lured) == (2, 1)
    assert [m.path for m in first.shown_by] == ["0.jpg", "1.jpg", "3.jpg"]
    assert (first.signs, first.involved) == (3, 12), "two missed without evidence, one lured"
    assert first.suspicion == lower_bound(3, 12)
    assert rows[2].recall is None, "no image of it has a label"
    assert (rows[2].false_alarms, rows[2].signs, rows[2].suspicion) == (1, 0, 0)
    assert found[0] is first


def test_one_picture_does_not_lead() -> None:
    many = [(0, 2, Group.BIAS)] * 9
    found = class_errors([10, 1, 30], mistakes(*many, (1, 2, Group.BIAS)))
    assert [row.class_index for row in found] == [0, 1, 2]
    assert found[1].signs == found[1].involved, "all of its images, but that is one"


@given(MISTAKES)
def test_every_mistake_is_counted_once_on_each_side(
    found: list[tuple[int, int, Group]],
) -> None:
    rows = class_errors([100] * 5, mistakes(*found))
    assert sum(row.errors for row in rows) == len(found)
    assert sum(row.false_alarms for row in rows) == len(found)
    assert sum(count for row in rows for _, count in row.mistaken_for) == len(found)
    for group in Group:
        assert sum(row.groups[group] for row in rows) == sum(g is group for *_, g in found)
    suspicions = [row.suspicion for row in rows]
    assert suspicions == sorted(suspicions, reverse=True)
