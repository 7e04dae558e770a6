"""What is scored: the same for all rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from lcam_cli.images.stream import Batch
from lcam_cli.measures.measure import Measure, Parts, Quantity, quantities
from lcam_cli.measures.objects import Objects, ObjectSource
from lcam_cli.measures.registry import make_measures
from lcam_cli.methods.explain import ClassChoice


@dataclass(frozen=True)
class Task:
    """What is to be scored.

    Attributes:
        paths: The images, N of them.
        choice: Which classes of each, C of them.
        nus: Percentages ν kept, M of them.
        measures: What is measured.
        space: ``"pixel"`` or ``"normalized"``: what hidden pixels become.
        keep: ``"values"`` or ``"whole"``: whether kept pixels have the map's value, or are whole.
        objects: Who knows where the objects are; None where nobody does.
        shown: Positions in ``paths`` of the images whose maps are kept for a figure.
    """

    paths: Sequence[str]
    choice: ClassChoice = field(default_factory=ClassChoice)
    nus: Sequence[float] = (100.0, 50.0, 15.0)
    measures: Sequence[Measure] = field(default_factory=make_measures)
    space: str = "pixel"
    keep: str = "values"
    objects: ObjectSource | None = None
    shown: Sequence[int] = ()

    @property
    def quantities(self) -> list[Quantity]:
        """All numbers that are measured of a map, K of them."""
        return quantities(self.measures, self.nus)

    @property
    def parts(self) -> Parts:
        """Where the numbers of each are."""
        return Parts(self.quantities)

    @property
    def explains_again(self) -> bool:
        """Whether a measure has the methods explain other images too."""
        return any(measure.explains_again for measure in self.measures)

    def objects_of(self, read: Batch, paths: Sequence[str], classes: Tensor) -> Objects | None:
        """The objects of B images, see :meth:`ObjectSource.of`; None where no measure asks."""
        if self.objects is None or not any(measure.needs_objects for measure in self.measures):
            return None
        return self.objects.of(read, paths, classes)
