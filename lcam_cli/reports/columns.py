"""The columns of a table of results: what each shows, who is best, and which belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lcam_cli.measures.measure import Measure
from lcam_cli.measures.score import Difference, Score
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.results import FLOOR, Results, Row
from lcam_cli.reports.text import printable

BEST, SECOND = 1, 2
LOWER, HIGHER = "↓", "↑"

UNDEFINED = "–"
"""Stands where a measure is defined for no image."""

_ITSELF = (0.0, 0.0)  # the interval of the best row's difference to itself


@dataclass(frozen=True)
class Column:
    """One column of the paper's Table 1.

    Attributes:
        title: Its head.
        cells: What it shows, a row each.
        ranks: 1 for the best rows, 2 for the second best, 0 for the others.
        close: Which rows do not differ significantly from the best one.
        intervals: The 95% intervals, as they are shown; empty text where there is none.
        measure: What it shows, for people who choose columns: ``"AD"``, ``"#FW"``; empty for the
            methods' names, which are always there.
        nu: The percentage ν; None where it has none.
        better: ``"↓"`` where lower is better, ``"↑"`` where higher is; empty where neither is.
    """

    title: str
    cells: Sequence[str]
    ranks: Sequence[int]
    close: Sequence[bool]
    intervals: Sequence[str]
    measure: str = ""
    nu: float | None = None
    better: str = ""

    @property
    def head(self) -> str:
        """Its title, and which way is better."""
        return f"{self.title} {self.better}".rstrip()


Group = Sequence[Column]
"""Columns that belong together: the measures at one ν."""


@dataclass(frozen=True)
class Columns:
    """All columns of a table, by what they say.

    Attributes:
        name: The methods' names.
        at_nus: The measures at each ν, a group a ν.
        plain: The measures of one number an image.
        costs: #FW, the mean of V, flat maps, speed.
    """

    name: Column
    at_nus: Sequence[Group]
    plain: Group
    costs: Group

    def __iter__(self) -> Iterator[Column]:
        yield self.name
        for group in (*self.at_nus, self.plain, self.costs):
            yield from group

    def parted(self, fits: Callable[[Sequence[Column]], bool]) -> list[list[Column]]:
        """Return the columns as tables that fit, as few as keep together what belongs together.

        What does not fit is parted by sense: the measures at each ν, the others, what maps cost;
        then by ν; then anywhere. Every table begins with the methods' names.

        Args:
            fits: Whether a table of these columns fits; one of two columns is taken as it is.
        """
        everything = list(self)
        if fits(everything):
            return [everything]
        tables: list[list[Column]] = []
        for groups in (self.at_nus, [self.plain], [self.costs]):
            whole = [self.name, *(column for group in groups for column in group)]
            if fits(whole):
                tables.append(whole)
            else:
                for group in groups:
                    tables += self._pieces(group, fits)
        return [table for table in tables if len(table) > 1]

    def _pieces(self, group: Group, fits: Callable[[Sequence[Column]], bool]) -> list[list[Column]]:
        """A group as tables that fit, all but the last as wide as may be."""
        tables = [[self.name]]
        for column in group:
            if len(tables[-1]) > 1 and not fits([*tables[-1], column]):
                tables.append([self.name])
            tables[-1].append(column)
        return tables


def columns(results: Results) -> Columns:
    """Return the columns: the method, the measures at each ν, the others, #FW, mean of V, speed.

    Where some map is flat, their numbers have a column too.

    Measures are ranked among the methods, without the ``random`` row, where there are at least two
    to rank; equal numbers share a rank.
    """
    rows = results.rows

    def plain(title: str, cell: Callable[[Row], str]) -> Column:
        cells, n = [cell(row) for row in rows], len(rows)
        return Column(title, cells, [0] * n, [False] * n, [""] * n, title)

    def ranked(measure: Measure, nu: float | None) -> Column:
        title = measure.title if nu is None else f"{measure.title}({nu_key(nu)})"
        scores = [_score(row, measure, nu) for row in rows]
        found = [_RankedCell.of(score, measure.digits) for score in scores]
        cells = [one.shown for one in found]
        ranks = _ranks(rows, cells, sign=1 if measure.lower_is_better else -1)
        intervals = [one.interval for one in found]
        close = _close(found, ranks)
        better = LOWER if measure.lower_is_better else HIGHER
        return Column(title, cells, ranks, close, intervals, measure.title, nu, better)

    some_flat = any(row.flat_maps for row in rows)
    name = plain("method", lambda row: printable(row.method))
    return Columns(
        replace(name, measure=""),
        [[ranked(measure, nu) for measure in results.nu_measures] for nu in results.nus],
        [ranked(measure, None) for measure in results.plain_measures],
        [
            plain(
                "#FW", lambda row: "?" if row.forward_passes is None else str(row.forward_passes)
            ),
            plain("mean V", lambda row: f"{row.mean_saliency:.3f}"),
            *([plain("flat", lambda row: str(row.flat_maps or 0))] if some_flat else []),
            plain(f"{results.speed}/s", lambda row: f"{row.images_per_second:.1f}"),
        ],
    )


@dataclass(frozen=True)
class _RankedCell:
    """A number that rows are ranked by, its interval, and how far it is from the best row's."""

    shown: str
    interval: str
    to_best: Difference | None

    @classmethod
    def of(cls, score: Score | None, digits: int) -> _RankedCell:
        if score is None:  # the row lacks it
            return cls("", "", None)
        if score.mean is None or score.ci95 is None:
            return cls(UNDEFINED, "", None)
        low, high = (f"{bound:.{digits}f}" for bound in score.ci95)
        return cls(f"{score.mean:.{digits}f}", f"{low} to {high}", score.to_best)


def _score(row: Row, measure: Measure, nu: float | None) -> Score | None:
    scores = row.scores.plain if nu is None else row.scores.nu.get(nu, {})
    return scores.get(measure.name)


def _close(found: Sequence[_RankedCell], ranks: Sequence[int]) -> list[bool]:
    """Which rows, beside the best, have a difference to it whose interval covers 0.

    The best itself, and what is equal to it on every image, stands out by its rank; the floor,
    which has none, is marked.
    """
    best = {one.shown for one, rank in zip(found, ranks, strict=True) if rank == BEST}
    return [
        rank != BEST
        and one.to_best is not None
        and not one.to_best.significant
        and (one.to_best.ci95 != _ITSELF or one.shown in best)
        for one, rank in zip(found, ranks, strict=True)
    ]


def _ranks(rows: Sequence[Row], cells: Sequence[str], sign: int) -> list[int]:
    """Rank what is shown, so that cells which look equal are equal; ``sign`` 1 puts low first."""
    ranked = [
        cell not in ("", UNDEFINED) and row.method != FLOOR
        for row, cell in zip(rows, cells, strict=True)
    ]
    rivals = [sign * float(cell) for cell, one in zip(cells, ranked, strict=True) if one]
    if len(rivals) < 2:
        return [0] * len(rows)
    ranks = dict(zip(sorted(set(rivals)), (BEST, SECOND), strict=False))
    return [
        ranks.get(sign * float(cell), 0) if one else 0
        for cell, one in zip(cells, ranked, strict=True)
    ]
