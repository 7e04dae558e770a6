"""What is scored: the same for all rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lcam_cli.measures.measure import Measure, Quantity, quantities
from lcam_cli.measures.registry import make_measures
from lcam_cli.methods.explain import ClassChoice


@dataclass(frozen=True)
class Task:
    """What is to be scored.

    Attributes:
        paths: The pictures, N of them.
        choice: Which classes of each, C of them.
        nus: Percentages ν kept, M of them.
        measures: What is measured.
        space: ``"pixel"`` or ``"normalized"``: what hidden pixels become.
        shown: Positions in ``paths`` of the pictures whose maps are kept for a figure.
    """

    paths: Sequence[str]
    choice: ClassChoice = field(default_factory=ClassChoice)
    nus: Sequence[float] = (100.0, 50.0, 15.0)
    measures: Sequence[Measure] = field(default_factory=make_measures)
    space: str = "pixel"
    shown: Sequence[int] = ()

    @property
    def quantities(self) -> list[Quantity]:
        """All numbers that are measured of a map, K of them."""
        return quantities(self.measures, self.nus)
