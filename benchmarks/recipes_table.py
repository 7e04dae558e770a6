"""The numbers of ``recipes.py``: means, differences image by image, a table and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lcam_cli.measures.bootstrap import bootstrap, mean, percentiles

UNTRAINED = ("cam", "gradcam", "gradcam++", "layercam")
"""Methods of one forward pass that need no training: what is learned is set against the best."""
FLOOR = "random"

Numbers = Mapping[str, NDArray[np.float64]]
"""By column of ``--per-image``, a number an image; NaN where a measure is not defined."""


@dataclass(frozen=True)
class Measured:
    """A column of the table.

    Attributes:
        title: Its head.
        kind: The comparison that it comes from.
        column: What ``--per-image`` calls it.
        sign: 1 where low is better, −1 where high is, 0 where neither is.
        digits: Decimals.
    """

    title: str
    kind: str
    column: str
    sign: int
    digits: int = 1


MEASURED = (
    *(Measured(f"AD({nu})", "values", f"ad_{nu}", 1) for nu in (100, 50, 15)),
    *(Measured(f"IC({nu})", "values", f"ic_{nu}", -1) for nu in (100, 50, 15)),
    *(Measured(f"AG({nu})", "values", f"ag_{nu}", -1) for nu in (100, 50, 15)),
    *(Measured(f"AD({nu}), whole", "whole", f"ad_{nu}", 1) for nu in (50, 15)),
    Measured("ROAD", "road", "road", -1, 3),
    Measured("insertion", "curves", "insertion", -1, 3),
    Measured("deletion", "curves", "deletion", 1, 3),
    Measured("mean V", "values", "mean_saliency", 0, 3),
)


def columns_in(line: Mapping[str, str]) -> list[str]:
    """The columns of a file of ``--per-image`` that the table needs."""
    return sorted({one.column for one in MEASURED} & line.keys())


def row_of(method: str, seed: int) -> str:
    return f"{method}, seed {seed}"


def summary(
    job: str,
    pictures: int,
    numbers: Mapping[str, Mapping[str, Numbers]],
    learned: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Means of all rows, and how what was learned differs from the best untrained row.

    Args:
        job: Its name.
        pictures: How many are measured.
        numbers: By kind and row.
        learned: By method, ``seeds`` and what else is known of its runs.

    Returns:
        Values for JSON: of each row and measure the ``mean`` and its 95% bootstrap interval
        ``ci95`` over the images; of each learned method and measure the mean over its seeds, the
        lowest and highest of them, and the difference to ``best`` and to CAM. An image's number is
        the mean over the seeds there, so that intervals are of images, not of seeds.
    """
    measured = [one for one in MEASURED if one.kind in numbers]
    rows = {
        name: {one.title: _mean_of(numbers[one.kind][name][one.column]) for one in measured}
        for name in numbers["values"]
    }

    def of(method: str, seeds: Sequence[int], one: Measured) -> dict[str, Any]:
        kind = numbers[one.kind]
        each = [kind[row_of(method, seed)][one.column] for seed in seeds]
        means = [float(mean(picture)) for picture in each]
        over_seeds = np.mean(each, 0)
        found = {**_mean_of(over_seeds), "min": min(means), "max": max(means)}
        if one.sign == 0:
            return found
        best = min(UNTRAINED, key=lambda name: one.sign * rows[name][one.title]["mean"])
        to_best = over_seeds - kind[best][one.column]
        to_cam = over_seeds - kind["cam"][one.column]
        return {**found, "best": best, "to_best": _mean_of(to_best), "to_cam": _mean_of(to_cam)}

    return {
        "job": job,
        "pictures": pictures,
        "rows": rows,
        "learned": {
            method: {
                **runs,
                "measures": {one.title: of(method, runs["seeds"], one) for one in measured},
            }
            for method, runs in learned.items()
        },
    }


def _mean_of(numbers: NDArray[np.float64]) -> dict[str, Any]:
    low, high = percentiles(bootstrap(numbers[None], 0).T)
    return {"mean": float(mean(numbers)), "ci95": [float(low[0]), float(high[0])]}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """All jobs in one Markdown table, and what is significantly behind."""
    there = [one for one in MEASURED if any(one.title in job["rows"]["cam"] for job in results)]
    arrows = {1: " ↓", -1: " ↑", 0: ""}
    heads = ["job", "row", "training, s", *(one.title + arrows[one.sign] for one in there)]
    lines = [heads, [*["---"] * 2, *["---:"] * (len(heads) - 2)]]
    for job in results:
        name = f"{job['job']} ({job['pictures']})"
        body = [*_learned_rows(job, there), *_untrained_rows(job, there)]
        lines += [[name, *cells] for cells in body]
    behind = [line for job in results for line in _behind(job, there)]
    return "\n".join(
        [
            *(f"| {' | '.join(cells)} |" for cells in lines),
            "",
            "In brackets: images that are measured; lowest to highest of the seeds; 95% intervals"
            " of differences to the best untrained row, paired by image (**bold**: 0 is not in).",
            f"Significantly behind the best untrained row: {'; '.join(behind) or 'nowhere'}.",
        ]
    )


def _learned_rows(job: Mapping[str, Any], there: Iterable[Measured]) -> list[list[str]]:
    found = []
    for method, runs in job["learned"].items():
        seeds, seconds = runs["seeds"], runs["seconds"]
        for seed, spent in zip(seeds, seconds, strict=True):
            row = row_of(method, seed)
            found.append([row, f"{spent:.0f}", *(_plain(job["rows"][row], one) for one in there)])
        cells = [_of_seeds(runs["measures"], one) for one in there]
        if len(seeds) > 1:
            found.append([f"{method}, mean", f"{np.mean(seconds):.0f}", *cells])
        differences = [_difference(runs["measures"], one) for one in there]
        found.append([f"{method}, less the best untrained", "", *differences])
    return found


def _untrained_rows(job: Mapping[str, Any], there: Iterable[Measured]) -> list[list[str]]:
    names = (*UNTRAINED, FLOOR)
    return [[name, "", *(_plain(job["rows"][name], one) for one in there)] for name in names]


def _plain(row: Mapping[str, Any], one: Measured) -> str:
    return f"{row[one.title]['mean']:.{one.digits}f}" if one.title in row else ""


def _of_seeds(measures: Mapping[str, Any], one: Measured) -> str:
    if one.title not in measures:
        return ""
    found, digits = measures[one.title], one.digits
    spread = f"({found['min']:.{digits}f}–{found['max']:.{digits}f})"
    return f"{found['mean']:.{digits}f} {spread}"


def _difference(measures: Mapping[str, Any], one: Measured) -> str:
    if "to_best" not in measures.get(one.title, {}):
        return ""
    found, digits = measures[one.title], one.digits
    (low, high), middle = found["to_best"]["ci95"], f"{found['to_best']['mean']:+z.{digits}f}"
    if low > 0 or high < 0:
        middle = f"**{middle}**"
    return f"{middle} [{low:+z.{digits}f}, {high:+z.{digits}f}] {found['best']}"


def _behind(job: Mapping[str, Any], there: Iterable[Measured]) -> list[str]:
    return [
        f"{job['job']} {method} {one.title}"
        for method, runs in job["learned"].items()
        for one in there
        if "to_best" in (found := runs["measures"].get(one.title, {}))
        and min(one.sign * end for end in found["to_best"]["ci95"]) > 0
    ]


def plot(results: Sequence[Mapping[str, Any]], target: Path) -> None:
    """AD(50) of what was learned by the number of images, and CAM's.

    Intervals are those of the difference to CAM, image by image, drawn around CAM's AD(50):
    where one leaves CAM's line out, training made a difference.
    """
    title = "AD(50)"
    networks = list(dict.fromkeys(job["job"].partition("-")[0] for job in results))
    figure = Figure(figsize=(5 * len(networks), 4), layout="constrained")
    for axes, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks,
                             strict=True):  # fmt: skip
        jobs = [job for job in results if job["job"].partition("-")[0] == network]
        for i, method in enumerate(jobs[0]["learned"]):
            runs = [job["learned"][method] for job in jobs]
            found = [run["measures"][title] for run in runs]
            cam = np.array([job["rows"]["cam"][title]["mean"] for job in jobs])
            low, high = np.array([one["to_cam"]["ci95"] for one in found]).T + cam
            y = np.array([one["mean"] for one in found])
            x = np.array([run["pictures"] for run in runs]) * 1.04**i  # side by side
            axes.errorbar(x, y, (y - low, high - y), label=method, marker="o", capsize=3)
        cam_of_all = float(np.mean([job["rows"]["cam"][title]["mean"] for job in jobs]))
        axes.axhline(cam_of_all, color="black", linestyle="--", label="cam")
        axes.set(xscale="log", xlabel="pictures trained on", ylabel=f"{title}, %", title=network)
        shown = sorted({job["learned"][m]["pictures"] for job in jobs for m in job["learned"]})
        axes.set_xticks(shown, [str(n) for n in shown])
        axes.minorticks_off()
        axes.legend()
    figure.savefig(target, dpi=150)
