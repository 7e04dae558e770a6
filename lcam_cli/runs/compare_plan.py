"""What a comparison has still to do, and which rank does it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.measures.sweep import Candidate, sweep_batch
from lcam_cli.runs.comparison import Comparison
from lcam_cli.scale.shares import gaps_between, share_out


@dataclass(frozen=True)
class Plan:
    """What is to be done, and by whom.

    Attributes:
        taken: The methods that an earlier run finished.
        sweeps: The names of the methods of each sweep, and by rank the images it takes.
    """

    taken: list[str]
    sweeps: list[tuple[list[str], list[list[range]]]]

    @property
    def pictures(self) -> int:
        """How many images are read in all sweeps together."""
        return sum(len(part) for _, shares in self.sweeps for share in shares for part in share)


def make_plan(comparison: Comparison, ranks: int, *, resume: bool) -> Plan:
    """Share out what is to be done.

    Args:
        comparison: What is compared.
        ranks: How many processes take part.
        resume: Whether what an earlier run left is kept; else it is removed.
    """
    kept = {c.name: _kept_parts(comparison, c, resume) for c in comparison.candidates}
    every = len(comparison.task.paths)
    taken = [name for name, parts in kept.items() if not gaps_between(parts, every)]
    sweeps = list(_sweeps([c for c in comparison.candidates if c.name not in taken]))
    batches = [sweep_batch(comparison.engine, together) for together in sweeps]
    # So that a rank takes the same images in every sweep.
    unit = math.lcm(*batches)
    shares = []
    for together, batch in zip(sweeps, batches, strict=True):
        done = _common_parts(comparison, together, kept, batch)
        parts = share_out(gaps_between(done, every), unit, ranks)
        shares.append(([candidate.name for candidate in together], parts))
    return Plan(taken, shares)


def _sweeps(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """All methods of one forward pass together, then the others, each by itself."""
    quick = [candidate for candidate in candidates if candidate.method.forward_passes <= 1]
    if quick:
        yield quick
    yield from ([candidate] for candidate in candidates if candidate not in quick)


def _kept_parts(comparison: Comparison, candidate: Candidate, resume: bool) -> list[range]:
    """Return the parts of a method that stay, in order; remove what else there is."""
    state = comparison.state
    kept: list[range] = []
    for pictures in state.parts(candidate):
        found = state.load(candidate, pictures) if resume else None
        stays = (
            found is not None
            and not found[1]
            and pictures.start >= (kept[-1].stop if kept else 0)
            and (not comparison.keep_maps or _has_maps(comparison, candidate, pictures))
        )
        if stays:
            kept.append(pictures)
        else:
            state.forget(candidate, pictures)
    return kept


def _has_maps(comparison: Comparison, candidate: Candidate, pictures: range) -> bool:
    """Whether the maps of a part are there, by themselves or in the file of all images."""
    state = comparison.state
    for path in {state.maps_path(candidate, pictures), state.maps_path(candidate)}:
        with suppress(LcamError), MapsFile(path, trusted=True) as maps:
            if maps.complete:
                return True
    return False


def _common_parts(
    comparison: Comparison,
    together: Sequence[Candidate],
    kept: dict[str, list[range]],
    batch: int,
) -> list[range]:
    """Return the parts that no method of a sweep has still to do; remove all others.

    Args:
        comparison: What is compared.
        together: The methods of the sweep.
        kept: The parts of each.
        batch: Images a batch of this sweep; it may have been another one.
    """
    every = len(comparison.task.paths)
    done = [
        part
        for part in kept[together[0].name]
        if all(part in kept[candidate.name] for candidate in together)
        and part.start % batch == 0
        and (part.stop % batch == 0 or part.stop == every)
    ]
    for candidate in together:
        for part in kept[candidate.name]:
            if part not in done:
                comparison.state.forget(candidate, part)
    return done
