"""Which classes may be biased: the misclassified images put together class by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lcam_cli.measures.diagnose import Mistake
from lcam_cli.measures.error_groups import Group
from lcam_cli.measures.wilson import lower_bound


@dataclass(frozen=True)
class ClassErrors:
    """One class: how it fares, and how much speaks for a bias.

    Attributes:
        class_index: The class.
        pictures: Labelled images of it.
        groups: Its own misclassified images, by group.
        mistaken_for: The classes predicted instead and how often, most often first.
        false_alarms: Images of other classes that were taken for it.
        lured: Those of them in which the true class is recovered by its own region, so that what
            spoke for this class lies somewhere else.
        shown_by: The images that speak for a bias, on either side: its own that are missed
            without evidence, then the lured ones.
    """

    class_index: int
    pictures: int
    groups: dict[Group, int]
    mistaken_for: list[tuple[int, int]]
    false_alarms: int
    lured: int
    shown_by: list[Mistake]

    @property
    def errors(self) -> int:
        """Misclassified images of the class."""
        return sum(self.groups.values())

    @property
    def recall(self) -> float | None:
        """Share of its images that are classified as it, in [0, 1]; None without images."""
        return 1 - self.errors / self.pictures if self.pictures else None

    @property
    def involved(self) -> int:
        """Pictures that are of the class or taken for it."""
        return self.pictures + self.false_alarms

    @property
    def signs(self) -> int:
        """How many images speak for a bias."""
        return len(self.shown_by)

    @property
    def suspicion(self) -> float:
        """The share of signs among the images involved that is at least there, in [0, 1].

        A shortcut shows on both sides: its class is missed where it is absent, and predicted where
        it is present without the class. The lower bound keeps a class with one image, or two,
        from leading the list.
        """
        return lower_bound(self.signs, self.involved)


def class_errors(pictures: Sequence[int], mistakes: Sequence[Mistake]) -> list[ClassErrors]:
    """Put mistakes together by class.

    Args:
        pictures: Labelled images of each class, R numbers.
        mistakes: The misclassified ones.

    Returns:
        The classes that are in some mistake, most suspicious first; of equal ones that with more
        signs, then that with more images involved, then the first.
    """
    found = {c: _Tally() for m in mistakes for c in (m.true, m.predicted)}
    for mistake in mistakes:
        found[mistake.true].missed.append(mistake)
        found[mistake.predicted].alarms.append(mistake)
    rows = [tally.summary(c, pictures[c]) for c, tally in sorted(found.items())]
    return sorted(rows, key=lambda row: (-row.suspicion, -row.signs, -row.involved))


class _Tally:
    """The mistakes a class is in."""

    def __init__(self) -> None:
        self.missed: list[Mistake] = []
        self.alarms: list[Mistake] = []

    def summary(self, class_index: int, pictures: int) -> ClassErrors:
        """Count them."""
        unseen = [m for m in self.missed if m.group is Group.BIAS]
        lured = [m for m in self.alarms if m.group is Group.SEVERAL]
        return ClassErrors(
            class_index,
            pictures,
            {group: sum(m.group is group for m in self.missed) for group in Group},
            Counter(m.predicted for m in self.missed).most_common(),
            len(self.alarms),
            len(lured),
            unseen + lured,
        )
