"""Results with numbers that are easy to check by eye."""

from __future__ import annotations

from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.score import Difference, Score, Scores
from lcam_cli.reports.results import Results, Row


def nu_score(
    ad: float | None,
    ic: float,
    ad_ci95: tuple[float, float] | None,
    ic_ci95: tuple[float, float],
    ad_to_best: Difference | None = None,
    ic_to_best: Difference | None = None,
) -> dict[str, Score]:
    """AD and IC at one ν."""
    return {"ad": Score(ad, ad_ci95, ad_to_best), "ic": Score(ic, ic_ci95, ic_to_best)}


def score(ad: float, ic: float) -> dict[str, Score]:
    return nu_score(ad, ic, (ad - 1, ad + 1), (ic - 2, ic + 2))


def row(method: str, *scores: tuple[float, float], passes: int = 1) -> Row:
    nus = (100.0, 12.5)
    return Row(
        method,
        Scores({nu: score(*pair) for nu, pair in zip(nus, scores, strict=False)}),
        passes,
        0.123456,
        61.25,
    )


def results(*rows: Row) -> Results:
    measures = make_measures(name for row in rows for name in row.scores.plain)
    return Results(
        *("vgg16", "IMAGENET1K_V1", "features.29", 650, 2, "fp32", "cpu", rows), measures=measures
    )


FOUR = results(
    row("lcam-img", (12.96, 41.25), (78.14, 4.2)),
    row("gradcam", (32.12, 22.1), (84.15, 2.2)),
    row("rise", (8.74, 51.3), (78.7, 4.45), passes=4000),
    row("random", (1.0, 99.0), (99.0, 0.0), passes=0),
)
