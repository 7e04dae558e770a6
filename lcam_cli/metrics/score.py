"""What the measures say about one method at one ν."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NuScore:
    """Average Drop and Increase in Confidence at one ν, in percent.

    The intervals are 95% bootstrap intervals over the images, low and high.
    """

    ad: float
    ic: float
    ad_ci95: tuple[float, float]
    ic_ci95: tuple[float, float]
