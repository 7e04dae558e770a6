"""Results with numbers that are easy to check by eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lcam_cli.measures.measure import MapScores, Measure, Perturbation
from lcam_cli.measures.registry import find_measure, make_measures
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


class Between(Measure):
    """How far its first part is above its second."""

    name = title = "between"
    lower_is_better = False
    digits = 2
    parts = 2

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        return []

    def numbers(self, scores: MapScores, nu: float) -> Any:
        import torch

        return torch.stack([scores.V.amax((1, 2)), scores.V.amin((1, 2))])

    def summary(self, means: Any) -> Any:
        return means[..., 0] - means[..., 1]


class Plain(Between):
    """A measure of any name, of one number an image."""

    parts = 1

    def __init__(self, name: str, digits: int = 2) -> None:
        self.name = self.title = name  # type: ignore[misc]
        self.digits = digits  # type: ignore[misc]

    def summary(self, means: Any) -> Any:
        return means[..., 0]


PLAIN = [
    *("insertion", "deletion", "road", "coherency", "complexity", "adcc", "sparseness"),
    *("sensitivity", "pointing", "energy", "iou"),
]


def many(methods: int = 6, nus: tuple[float, ...] = (100.0, 50.0, 15.0)) -> Results:
    """All fourteen measures, of methods that fall back behind one another."""
    measures: list[Measure] = [find_measure(name) for name in ("ad", "ic", "ag")]
    measures += [Plain(name) for name in PLAIN]

    def one(base: float, k: int) -> Score:
        return Score(base + k, (base + k - 1, base + k + 1))

    rows = [
        Row(
            f"method-{k}",
            Scores(
                {nu: {m.name: one(nu, k) for m in measures[:3]} for nu in nus},
                {name: one(10, k) for name in PLAIN},
            ),
            *(1, 0.25, 10.0),
        )
        for k in range(methods)
    ]
    return Results(*("vgg16", "w", "features.29", 650, 0, "fp32", "cpu", rows), measures=measures)
