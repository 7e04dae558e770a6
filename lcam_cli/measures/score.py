"""What a measure says about one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lcam_cli.measures.measure import Quantity


@dataclass(frozen=True)
class Difference:
    """How far a row is from the best row of its table, on the same images.

    Attributes:
        mean: The mean over the images of this row's number less the best row's; 0 for the best row.
        ci95: Its 95% bootstrap interval, low and high.
    """

    mean: float
    ci95: tuple[float, float]

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.ci95[0] <= 0 <= self.ci95[1]


@dataclass(frozen=True)
class Score:
    """One measure of one method, at one ν where it is one at each.

    Attributes:
        mean: Over the images that have a number; None where none has.
        ci95: Its 95% bootstrap interval over the images, low and high; None as well.
        to_best: The difference to the best row; None where methods were not compared on the same
            images, or no other row could be best.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    to_best: Difference | None = None


@dataclass(frozen=True)
class Scores:
    """All measures of one method.

    Attributes:
        nu: Those at each ν, by ν and the measure's name.
        plain: Those of one number an image, by the measure's name.
    """

    nu: Mapping[float, Mapping[str, Score]] = field(default_factory=dict)
    plain: Mapping[str, Score] = field(default_factory=dict)

    @classmethod
    def of(cls, quantities: Sequence[Quantity], scores: Sequence[Score]) -> Scores:
        """Arrange the scores of quantities, one each."""
        nu: dict[float, dict[str, Score]] = {}
        plain: dict[str, Score] = {}
        for quantity, score in zip(quantities, scores, strict=True):
            of_nu = plain if quantity.nu is None else nu.setdefault(quantity.nu, {})
            of_nu[quantity.measure.name] = score
        return cls(nu, plain)
