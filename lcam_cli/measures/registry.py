"""The names that ``--metrics`` knows; known without torch, and before any plug-in is imported."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.deletion import Deletion
from lcam_cli.measures.increase_in_confidence import IncreaseInConfidence
from lcam_cli.measures.insertion import Insertion
from lcam_cli.measures.measure import Measure
from lcam_cli.plugins import entry_points_of, load

log = logging.getLogger("lcam")

GROUP = "lcam.measures"
"""Entry points of other packages: subclasses of :class:`Measure`, named as users type them."""

MEASURES: dict[str, type[Measure]] = {
    "ad": AverageDrop,
    "ic": IncreaseInConfidence,
    "insertion": Insertion,
    "deletion": Deletion,
}
"""The measures that come along."""

ALWAYS = ("ad", "ic")
"""Those that no table lacks: the paper's Table 1."""


def known_measures() -> list[str]:
    """Return all names: those that come along, then those of installed packages.

    A package's measure that takes a name of lcam's own is warned of and left out.
    """
    known = list(MEASURES)
    for name, point in entry_points_of(GROUP).items():
        if name in MEASURES:
            log.warning("the plug-in measure %r (%s) takes a name of lcam's own", name, point.value)
        else:
            known.append(name)
    return known


def check_measure(name: str) -> None:
    """Check that a measure has this name; none is loaded.

    Raises:
        LcamError: None has.
    """
    if name not in MEASURES and name not in entry_points_of(GROUP):
        known = known_measures()
        hint = did_you_mean(name, known) or f"choose from {', '.join(known)}."
        raise LcamError(f"{name!r} is no measure", hint)


def find_measure(name: str) -> Measure:
    """Make the measure of a name; of installed packages only the one that has it is loaded.

    Raises:
        LcamError: No measure has that name, or the package that brings it does not load or does
            not bring a measure of that name.
    """
    if name in MEASURES:
        return MEASURES[name]()
    check_measure(name)
    point = entry_points_of(GROUP)[name]
    kind: Any = load(point, "measure")
    if not (isinstance(kind, type) and issubclass(kind, Measure) and kind.name == name):
        raise LcamError(
            f"{point.value} is no measure called {name!r}",
            "an entry point names a subclass of lcam_cli.measures.measure.Measure",
        )
    return kind()


def make_measures(names: Iterable[str] = ()) -> list[Measure]:
    """Make the measures that are always there, and those named, each once.

    Raises:
        LcamError: See :func:`find_measure`.
    """
    return [find_measure(name) for name in dict.fromkeys([*ALWAYS, *names])]
