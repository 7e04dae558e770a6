"""A confusion matrix against counting by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lcam_cli.measures.diagnose import Mistake
from lcam_cli.measures.error_groups import Evidence, Group
from lcam_cli.reports.confusion import confusion

NOTHING = Evidence(0, 0, 0, 0, 0)


def mistakes(*pairs: tuple[int, int]) -> list[Mistake]:
    return [Mistake(f"{k}", t, p, NOTHING, Group.BIAS) for k, (t, p) in enumerate(pairs)]


def test_rows_are_true_classes_and_the_diagonal_is_right() -> None:
    found = confusion([5, 4, 3, 2], mistakes((0, 1), (0, 1), (2, 0)))
    assert list(found.classes) == [0, 1, 2], "the fourth is in no error"
    assert found.counts == [[3, 2, 0], [0, 4, 0], [1, 0, 2]]
    assert found.elsewhere == [0, 0, 0]
    assert found.pairs == [(0, 1, 2), (2, 0, 1)]
    assert found.left_out == 0


def test_the_classes_with_most_errors_are_shown() -> None:
    found = confusion([5, 4, 3, 2], mistakes((0, 1), (0, 1), (0, 3), (2, 1)), most=2)
    assert list(found.classes) == [0, 1]
    assert found.counts == [[2, 2], [0, 4]]
    assert found.elsewhere == [1, 0], "one of the first was taken for the fourth"
    assert found.left_out == 2


PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda p: p[0] != p[1]))


@settings(deadline=None)
@given(PAIRS, st.integers(1, 8))
def test_every_image_is_counted_once(pairs: list[tuple[int, int]], most: int) -> None:
    images = [9 + sum(t == c for t, _ in pairs) for c in range(7)]
    found = confusion(images, mistakes(*pairs), most)
    for c, row, rest in zip(found.classes, found.counts, found.elsewhere, strict=True):
        assert sum(row) + rest == images[c]
        assert row[found.classes.index(c)] == 9
        assert min(row) >= 0 <= rest
    assert sum(count for *_, count in found.pairs) == len(pairs)
