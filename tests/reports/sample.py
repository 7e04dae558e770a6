"""Results with numbers that are easy to check by eye."""

from __future__ import annotations

from lcam_cli.measures.score import NuScore
from lcam_cli.reports.results import Results, Row


def score(ad: float, ic: float) -> NuScore:
    return NuScore(ad, ic, (ad - 1, ad + 1), (ic - 2, ic + 2))


def row(method: str, *scores: tuple[float, float], passes: int = 1) -> Row:
    nus = (100.0, 12.5)
    return Row(
        method,
        {nu: score(*pair) for nu, pair in zip(nus, scores, strict=False)},
        passes,
        0.123456,
        61.25,
    )


def results(*rows: Row) -> Results:
    return Results("vgg16", "IMAGENET1K_V1", "features.29", 650, 2, "fp32", "cpu", rows)


FOUR = results(
    row("lcam-img", (12.96, 41.25), (78.14, 4.2)),
    row("gradcam", (32.12, 22.1), (84.15, 2.2)),
    row("rise", (8.74, 51.3), (78.7, 4.45), passes=4000),
    row("random", (1.0, 99.0), (99.0, 0.0), passes=0),
)
