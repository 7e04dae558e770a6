"""Which measure sees through which sham: six sham methods and four real ones, by every measure.

    python benchmarks/sham_measures.py ../shared/real/photos --backbone mobilenet_v2

A row a measure, a column a method. What is marked is set against Grad-CAM, image by image.
Measures that ask where the objects are need --boxes or --masks; the demo's images have masks
(`lcam demo`, then photos with --masks masks/photos --backbone lcam-demo).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import side_by_side as s
from shams import SHAMS, Bright

from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.rows import score_rows
from lcam_cli.measures.score import Score
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.reports.results import FLOOR
from lcam_cli.runs.compare_options import CompareOptions
from lcam_cli.runs.compare_setup import new_comparison
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.options import BackboneOptions, EngineOptions, PictureOptions
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.ranks import Ranks

REFERENCE = "gradcam"
REAL = (REFERENCE, "gradcam++", "cam")  # and random, as in every comparison
NAMES = [sham.name for sham in SHAMS]
IGNORANT = [name for name in [*NAMES, FLOOR] if name != Bright.name]
KEPT = {"values": "", "whole": ", kept whole"}


@dataclass(frozen=True)
class Line:
    """One measure's numbers of all methods.

    Attributes:
        title: The measure, at its ν, and which end is better.
        digits: Decimals.
        sign: 1 where low is better, −1 where high is.
        scores: By method. That of Grad-CAM is over all images; each other is over those that both
            have a number of, with its difference to Grad-CAM.
    """

    title: str
    digits: int
    sign: int
    scores: Mapping[str, Score]

    def cell(self, name: str) -> str:
        """What the table shows of a method."""
        score = self.scores[name]
        if score.mean is None:
            return "–"
        shown = f"{score.mean:.{self.digits}f}"
        if name not in (*NAMES, FLOOR):
            return shown
        if self.beats(name):
            return f"**{shown}**"
        return f"{shown}≈" if self.is_close(name) else shown

    def beats(self, name: str) -> bool:
        """Whether a method is significantly better than Grad-CAM."""
        to_gradcam = self.scores[name].to_best
        return to_gradcam is not None and to_gradcam.significant and self.sign * to_gradcam.mean < 0

    def is_close(self, name: str) -> bool:
        """Whether a method has a number that does not differ significantly from Grad-CAM's."""
        to_gradcam = self.scores[name].to_best
        return self.scores[name].mean is not None and not (to_gradcam and to_gradcam.significant)


def lines_of(rows: Mapping[str, PictureScores], task: Task, seed: int) -> list[Line]:
    """Set every row against Grad-CAM, each by itself.

    Together, a measure that is undefined for one sham's maps would be left out for all.
    """
    pairs = {
        name: score_rows({REFERENCE: rows[REFERENCE], name: row}, task, floor=name, seed=seed)
        for name, row in rows.items()
        if name != REFERENCE
    }
    alone = score_rows({REFERENCE: rows[REFERENCE]}, task, seed=seed)[0].scores
    scores = {REFERENCE: alone, **{name: pair[1].scores for name, pair in pairs.items()}}

    def score(name: str, quantity: Quantity) -> Score:
        found, measure = scores[name], quantity.measure.name
        return found.plain[measure] if quantity.nu is None else found.nu[quantity.nu][measure]

    return [
        Line(
            title(quantity, task.keep),
            quantity.measure.digits,
            1 if quantity.measure.lower_is_better else -1,
            {name: score(name, quantity) for name in rows},
        )
        for quantity in task.quantities
    ]


def title(quantity: Quantity, keep: str) -> str:
    """AD(50) ↓, kept whole."""
    measure = quantity.measure
    at = "" if quantity.nu is None else f"({quantity.nu:g})"
    return f"{measure.title}{at} {'↓' if measure.lower_is_better else '↑'}{KEPT[keep]}"


def tasks_of(task: Task) -> list[Task]:
    """The task with both ``keep``; whole only what depends on it: each ν, but all of the map."""
    nus = [nu for nu in task.nus if nu < 100]
    at_nus = [measure for measure in task.measures if measure.per_nu]
    whole = replace(task, keep="whole", nus=nus, measures=at_nus)
    return [replace(task, keep="values"), *([whole] if nus else [])]


def measure(
    comparison: Comparison, task: Task, workers: int, reporter: Reporter
) -> dict[str, PictureScores]:
    """Explain all images with all methods, and measure them."""
    size = comparison.engine.backbone.preprocess.input_shape[1:]
    methods = {name: sham() for name, sham in zip(NAMES, SHAMS, strict=True)}
    methods |= {candidate.name: candidate.method for candidate in comparison.candidates}
    candidates = [
        Candidate(name, method, PictureScores.empty(task, size)) for name, method in methods.items()
    ]
    sweep(
        comparison.engine,
        candidates,
        task,
        workers=workers,
        skip=lambda lost: reporter.warn(f"{lost.path}: {lost.reason}"),
    )
    for candidate in candidates:
        if candidate.failed:
            raise SystemExit(f"{candidate.name}: {candidate.failed}")
    return {candidate.name: candidate.scores for candidate in candidates}


def table(lines: Sequence[Line]) -> str:
    """A row a measure, a column a method, shams first."""
    names = list(lines[0].scores)
    head = [["measure", *names], ["---", *("---:" for _ in names)]]
    body = [[line.title, *map(line.cell, names)] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*head, *body])


def summary(lines: Sequence[Line]) -> str:
    """Which measures rank a sham above Grad-CAM, and which never do."""
    above, unsure, below = [], [], []
    for line in lines:
        if better := [name for name in (*NAMES, FLOOR) if line.beats(name)]:
            above.append(f"- {line.title}: {', '.join(better)}")
        elif close := [name for name in IGNORANT if line.is_close(name)]:
            unsure.append(f"- {line.title}: {', '.join(close)}")
        else:
            below.append(line.title)
    return "\n".join(
        [
            "These measures rank a sham significantly above Grad-CAM:\n",
            *(above or ["- none"]),
            "\nThese never do, but do not tell Grad-CAM from a sham that knows nothing:\n",
            *(unsure or ["- none"]),
            "\nThese rank all shams that know nothing significantly below: "
            f"{'; '.join(below) or 'none'}.",
            "(`bright` knows what Grad-CAM knows: a measure of place alone finds them equal.)",
        ]
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights")
    parser.add_argument("--layer")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--metrics", default="all", help="names by commas; ad and ic always")
    parser.add_argument("--nu", default="100,50,15")
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)

    reporter = Reporter(on_warning=lambda line: print(line, file=sys.stderr))
    options = CompareOptions(
        methods=REAL,
        nu=tuple(float(nu) for nu in given.nu.split(",")),
        metrics=tuple(given.metrics.split(",")),
        boxes=given.boxes,
        masks=given.masks,
        seed=given.seed,
        pictures=PictureOptions(max_images=given.max_images),
        backbone=BackboneOptions(
            backbone=given.backbone,
            weights=given.weights,
            layer=given.layer,
            image_size=given.image_size,
        ),
        engine=EngineOptions(device=given.device, batch_size=given.batch_size),
    )
    # The classifier, the images and what is measured are those of lcam compare.
    ranks = Ranks(RankInfo())
    comparison = new_comparison(given.pictures, options, given.device, ranks, reporter)
    start = time.perf_counter()
    lines, images = [], 0
    for task in tasks_of(comparison.task):
        measured = measure(comparison, task, given.workers, reporter)
        lines += lines_of(measured, task, given.seed)
        images = int(measured[REFERENCE].scored.sum())
    minutes = (time.perf_counter() - start) / 60

    backbone = comparison.engine.backbone.identity
    print(
        f"{s.machine()}\n{backbone.name}, {backbone.weights}, {backbone.layer}; {images} images, "
        f"one run of {minutes:.1f} min\n\n{table(lines)}\n\n"
        "**bold**: significantly better than Grad-CAM (95%, paired over images); ≈: no "
        "significant difference; –: undefined for these maps.\n\n"
        f"{summary(lines)}"
    )


if __name__ == "__main__":
    main()
