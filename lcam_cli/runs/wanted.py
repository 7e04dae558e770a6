"""Which methods ``--methods`` asks for: by their names, and by those of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lcam_cli.methods.families import ALL, GROUPS, ONE_PASS
from lcam_cli.methods.registry import known_methods
from lcam_cli.methods.trained import LCAM, SUMMARIES
from lcam_cli.reports.results import FLOOR

_TRAINED = {ALL: (LCAM,), ONE_PASS: (LCAM,), "learned": tuple(SUMMARIES)}
"""The trained methods of groups: of "learned" the newest run of every kind."""


@dataclass(frozen=True)
class Wanted:
    """A method that is to be compared, and why.

    Attributes:
        name: As users type it.
        by_name: Whether it was named itself, not by a group: then it must be there.
        one_pass: Whether it is only wanted where a map costs one forward pass, and at most one
            backward pass that serves all such methods.
    """

    name: str
    by_name: bool = True
    one_pass: bool = False


def wanted_methods(names: Sequence[str] | None) -> list[Wanted]:
    """The methods that names of methods and groups stand for, each once, in order.

    Args:
        names: As typed; None for ``one-pass``. The floor is in no group.
    """
    names = [ONE_PASS] if names is None else names
    known = known_methods() if any(name in GROUPS for name in names) else {}
    wanted: dict[str, Wanted] = {}
    for name in names:
        if name not in GROUPS:
            wanted[name] = Wanted(name)
            continue
        of_group = [
            one
            for one, entry in known.items()
            if name in (ALL, entry.family) or (name == ONE_PASS and entry.may_share_passes)
        ]
        for member in [*_TRAINED.get(name, ()), *of_group]:
            asked = Wanted(member, by_name=False, one_pass=name == ONE_PASS)
            before = wanted.setdefault(member, asked)
            if before.one_pass and not asked.one_pass:
                wanted[member] = asked
    wanted_floor = wanted.get(FLOOR)
    if wanted_floor is not None and not wanted_floor.by_name:
        del wanted[FLOOR]
    return list(wanted.values())
