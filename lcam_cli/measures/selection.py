"""Which of several candidates explains best, on images that none of them was trained on.

A candidate is judged by Average Drop (L-CAM, Eq. 10) where few and many pixels are kept, with the
map's values and whole: whole, a map gains nothing by being bright. Its score is the mean of all
:data:`DROPS`, so that no single ν decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.measures.drops import Drop
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.paired import paired
from lcam_cli.measures.score import Difference, Score

DROPS = (
    *(Drop(nu, "values") for nu in (100.0, 50.0, 25.0, 15.0)),
    *(Drop(nu, "whole") for nu in (50.0, 25.0, 15.0)),
)
"""What candidates are judged by; whole, nothing is hidden at ν = 100."""

SHOWN = (Drop(50.0, "values"), Drop(50.0, "whole"))
"""Those of them that people are shown, and all that is measured of random maps."""

_DIGITS = 4


@dataclass(frozen=True)
class CandidateScore:
    """What was measured of one candidate, on the images that all of them have.

    Attributes:
        drops: AD in percent, with intervals.
        mean: The mean of all :data:`DROPS`; None where not all of them were measured.
        from_start: How far its mean lies from that of where the run started, on the same images;
            below 0 where it is better. None for the start, and where there is no mean.
    """

    drops: Mapping[Drop, Score]
    mean: Score | None = None
    from_start: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """As files say it, numbers rounded to 4 decimals."""
        found: dict[str, Any] = {}
        if self.mean is not None:
            found["mean_ad"] = _score(self.mean)
        if self.from_start is not None:
            found["from_start"] = _score(self.from_start)
        for key, keep in (("ad", "values"), ("ad_whole", "whole")):
            own = {drop.nu: score for drop, score in self.drops.items() if drop.keep == keep}
            found[key] = {f"{nu:g}": _score(score) for nu, score in own.items()}
        return found


@dataclass(frozen=True)
class Selection:
    """Which candidate was chosen, and how all of them score.

    Attributes:
        kept_aside: How many images were kept aside.
        pictures: How many of them were scored: of the others one candidate or another has no AD.
        start: The name of where the run started.
        chosen: The name of the best candidate.
        candidates: By name.
        random: Of random maps.
    """

    kept_aside: int
    pictures: int
    start: str
    chosen: str
    candidates: Mapping[str, CandidateScore]
    random: CandidateScore

    @property
    def learned(self) -> str:
        """The name of the best candidate that was learned."""
        return _best({n: one for n, one in self.candidates.items() if n != self.start}, self.start)

    @property
    def paid(self) -> bool:
        """Whether what was learned is better than where the run started, by more than chance."""
        gain = self.candidates[self.learned].from_start
        return gain is not None and gain.ci95[1] < 0

    def to_json(self) -> dict[str, Any]:
        """As files say it."""
        return {
            "kept_aside": self.kept_aside,
            "pictures": self.pictures,
            "chosen": self.chosen,
            "paid": self.paid,
            "candidates": {name: one.to_json() for name, one in self.candidates.items()},
            "random": self.random.to_json(),
        }


def select(
    candidates: Mapping[str, NDArray[np.float64]],
    random: NDArray[np.float64],
    start: str,
    seed: int,
) -> Selection | None:
    """Choose the candidate with the lowest mean drop; of equal ones, one that was learned.

    Args:
        candidates: AD in percent of each, (drops, N), a row one of :data:`DROPS`; NaN where a
            image has none.
        random: The same of random maps, a row one of :data:`SHOWN`.
        start: Which of the candidates is where the run started.
        seed: Of the bootstrap.

    Returns:
        The choice; None where there is no image that all have numbers of.
    """
    numbers = np.stack(list(candidates.values()))  # (candidates, drops, N)
    finite = np.isfinite(numbers).all(axis=(0, 1)) & np.isfinite(random).all(axis=0)
    usable = np.asarray(finite, np.bool_)
    if not usable.any():
        return None
    numbers = numbers[:, :, usable]
    with_mean = np.concatenate([numbers, numbers.mean(1, keepdims=True)], 1)
    # All differences are to the start, as if it alone could be best.
    rows = paired(
        with_mean, _quantities((*DROPS, DROPS[0])), [name == start for name in candidates], seed
    )
    scored = {
        name: CandidateScore(
            dict(zip(DROPS, row, strict=False)),
            row[-1],
            None if name == start else row[-1].to_best,
        )
        for name, row in zip(candidates, rows, strict=True)
    }
    (of_random,) = paired(random[None, :, usable], _quantities(SHOWN), [False], seed)
    return Selection(
        kept_aside=len(usable),
        pictures=int(usable.sum()),
        start=start,
        chosen=_best(scored, start),
        candidates=scored,
        random=CandidateScore(dict(zip(SHOWN, of_random, strict=True))),
    )


def _best(candidates: Mapping[str, CandidateScore], start: str) -> str:
    """The name of the candidate with the lowest mean; the first of equal ones, the start last."""
    order = sorted(candidates, key=lambda name: name == start)
    return min(order, key=lambda name: _mean(candidates[name]))


def _mean(candidate: CandidateScore) -> float:
    assert candidate.mean is not None
    assert candidate.mean.mean is not None
    return round(candidate.mean.mean, 10)  # rounding decides nothing


def _quantities(drops: tuple[Drop, ...]) -> list[Quantity]:
    return [drop.quantity for drop in drops]


def _score(score: Score | Difference) -> dict[str, Any]:
    mean, ci95 = score.mean, score.ci95
    assert mean is not None
    assert ci95 is not None
    return {"mean": round(mean, _DIGITS), "ci95": [round(end, _DIGITS) for end in ci95]}
