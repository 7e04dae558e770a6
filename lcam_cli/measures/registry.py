"""The names that ``--metrics`` knows; known without torch, and before any plug-in is imported."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.measures.adcc import Adcc
from lcam_cli.measures.average_drop import AverageDrop
from lcam_cli.measures.average_gain import AverageGain
from lcam_cli.measures.coherency import Coherency
from lcam_cli.measures.complexity import Complexity
from lcam_cli.measures.deletion import Deletion
from lcam_cli.measures.energy import Energy
from lcam_cli.measures.increase_in_confidence import IncreaseInConfidence
from lcam_cli.measures.insertion import Insertion
from lcam_cli.measures.iou import IoU
from lcam_cli.measures.measure import Measure
from lcam_cli.measures.pointing import Pointing
from lcam_cli.measures.road import Road
from lcam_cli.measures.sensitivity import Sensitivity
from lcam_cli.measures.sparseness import Sparseness
from lcam_cli.plugins import TELL, entry_points_of, load, plugin_code, plugin_name

log = logging.getLogger("lcam")

GROUP = "lcam.measures"
"""Entry points of other packages: subclasses of :class:`Measure`, named as users type them."""

MEASURES: dict[str, type[Measure]] = {
    "ad": AverageDrop,
    "ic": IncreaseInConfidence,
    "ag": AverageGain,
    "insertion": Insertion,
    "deletion": Deletion,
    "road": Road,
    "coherency": Coherency,
    "complexity": Complexity,
    "adcc": Adcc,
    "sparseness": Sparseness,
    "sensitivity": Sensitivity,
    "pointing": Pointing,
    "energy": Energy,
    "iou": IoU,
}
"""The measures that come along."""

ALWAYS = ("ad", "ic")
"""Those that no table lacks: the paper's Table 1."""

DEFAULT = (*ALWAYS, "ag")
"""Those of a run that names none."""

ALL = "all"
"""What stands for every measure, of those that ask for objects where somebody knows them."""


def known_measures() -> list[str]:
    """Return all names: those that come along, then those of installed packages.

    A package's measure that has a name that lcam itself uses is warned of and left out.
    """
    known = list(MEASURES)
    for name, point in entry_points_of(GROUP).items():
        if name in MEASURES:
            log.warning(
                "the plug-in measure %r (%s) has a name that lcam itself uses", name, point.value
            )
        else:
            known.append(name)
    return known


def check_measure(name: str) -> None:
    """Check that a measure has this name, or that it is ``"all"``; none is loaded.

    Raises:
        LcamError: None has.
    """
    if name != ALL and name not in MEASURES and name not in entry_points_of(GROUP):
        known = known_measures()
        # An empty word, between two commas, is like none of them.
        alike = did_you_mean(name, known) if name else ""
        hint = alike or f"choose from {', '.join(known)}."
        raise LcamError(f"{name!r} is not a measure", hint)


def check_measures(names: Sequence[str], *, objects: bool) -> None:
    """Check the names of a run's measures, and that what they ask for is there.

    Args:
        names: As users type them.
        objects: Whether somebody knows where the objects are.

    Raises:
        LcamError: No measure has one of the names; a measure asks where the objects are, which
            nobody knows; or somebody does, and none asks.
    """
    for name in names:
        check_measure(name)
    own = [MEASURES[name] for name in names if name in MEASURES]
    _check_objects(own, objects=objects)
    if objects and len(own) == len(names) and not any(measure.needs_objects for measure in own):
        asking = ",".join(name for name, measure in MEASURES.items() if measure.needs_objects)
        raise LcamError(
            "--boxes or --masks is set, but no measure needs the objects",
            f"add --metrics {asking}",
        )


def _check_objects(measures: Iterable[Measure | type[Measure]], *, objects: bool) -> None:
    lacking = [measure.name for measure in measures if measure.needs_objects and not objects]
    if lacking:
        raise LcamError(
            f"{', '.join(lacking)}: lcam does not know where the objects are",
            "pass --boxes FILE or --masks DIR",
        )


def find_measure(name: str) -> Measure:
    """Make the measure of a name; of installed packages only the one that has it is loaded.

    Raises:
        LcamError: No measure has that name, or the package that brings it does not load, does not
            bring a measure of that name, or brings one that lacks what a measure says.
    """
    if name in MEASURES:
        return MEASURES[name]()
    check_measure(name)
    point = entry_points_of(GROUP)[name]
    kind: Any = load(point, "measure")
    if not (isinstance(kind, type) and issubclass(kind, Measure) and kind.name == name):
        raise LcamError(
            f"{point.value} is not a measure called {name!r}",
            "make the entry point a subclass of lcam_cli.measures.measure.Measure",
        )
    who = plugin_name(point, "measure")
    with plugin_code(f"{who} failed", point.module):
        measure: Measure = kind()
        _check(measure, who)
    return measure


def make_measures(names: Iterable[str] = DEFAULT, *, objects: bool = False) -> list[Measure]:
    """Make the measures that are always there, and those named, each once.

    Args:
        names: As users type them; ``"all"`` stands for all that can be measured.
        objects: Whether somebody knows where the objects are.

    Raises:
        LcamError: See :func:`find_measure`; or a measure that is named asks for objects, of which
            nobody knows.
    """
    names = list(names)
    made = [find_measure(name) for name in dict.fromkeys([*ALWAYS, *names]) if name != ALL]
    _check_objects(made, objects=objects)
    if ALL in names:
        others = (find_measure(name) for name in known_measures())
        there = {measure.name for measure in made}
        made += [m for m in others if m.name not in there and (objects or not m.needs_objects)]
    return made


def _check(measure: Measure, who: str) -> None:
    """Check what a package's measure says of itself.

    Raises:
        LcamError: It lacks something, or something is of another kind than it has to be.
    """
    for name, kinds in _SAYS.items():
        if not isinstance(getattr(measure, name, None), kinds):
            has = repr(getattr(measure, name)) if hasattr(measure, name) else "missing"
            raise LcamError(f"{who}: its {name} is {has}, not {_words(kinds)}", TELL)
    json.dumps(dict(measure.settings), allow_nan=False)
    measure.left_out.format(maps="3 maps")


_SAYS: dict[str, type] = {
    "title": str,
    "lower_is_better": bool,
    "per_nu": bool,
    "digits": int,
    "mean_key": str,
    "long_title": str,
    "meaning": str,
    "left_out": str,
    "cost": str,
    "source": str,
    "needs_objects": bool,
    "explains_again": bool,
    "parts": int,
}


def _words(kind: type) -> str:
    return {str: "text", bool: "True or False", int: "a whole number"}[kind]
