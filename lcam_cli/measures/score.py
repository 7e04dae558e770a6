"""What the measures say about one method."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """How far a row is from the best row of its table, on the same images.

    Attributes:
        mean: The mean over the images of this row's term less the best row's; 0 for the best row.
        ci95: Its 95% bootstrap interval, low and high.
    """

    mean: float
    ci95: tuple[float, float]

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.ci95[0] <= 0 <= self.ci95[1]


@dataclass(frozen=True)
class NuScore:
    """Average Drop and Increase in Confidence at one ν, in percent.

    The intervals are 95% bootstrap intervals over the images, low and high. The differences to the
    best row are there where methods were compared on the same images. AD and its interval are None
    where it is defined on no image.
    """

    ad: float | None
    ic: float
    ad_ci95: tuple[float, float] | None
    ic_ci95: tuple[float, float]
    ad_to_best: Difference | None = None
    ic_to_best: Difference | None = None


@dataclass(frozen=True)
class CurveScore:
    """The area under an insertion or deletion curve, in [0, 1], as in ``NuScore``.

    None where no image has a curve of numbers.
    """

    auc: float | None
    ci95: tuple[float, float] | None
    to_best: Difference | None = None
