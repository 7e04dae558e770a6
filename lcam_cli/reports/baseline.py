"""An earlier result that a new one must not fall behind: ``--worse-than BASELINE.json --by X``.

The JSON of a run has the means. Where that run wrote ``--per-image`` too, and its CSV file lies
beside the JSON, both runs are compared image by image: an image that is hard is hard in both, so
that their difference is known much better than either mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.measures.bootstrap import bootstrap, percentiles
from lcam_cli.reports.gate import Gate
from lcam_cli.reports.image_numbers import GATED, ImageNumbers, read_image_numbers
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.results import FLOOR, SCHEMA, Results
from lcam_cli.reports.text import csv_text, printable

_LARGEST = 1 << 26  # bytes; a result takes some kilobytes
_ROUNDED = 6  # decimals of a difference that are not rounding
_SAME = 1e-3  # percent: the JSON has four decimals, the CSV seven digits


@dataclass(frozen=True)
class Baseline:
    """What an earlier run measured.

    Attributes:
        file: Its JSON.
        means: AD and IC in percent, by method, ν as it is written, and measure; None where it was
            not defined.
        mask_space: What hid pixels.
        keep: How kept pixels were shown.
        numbers: Those of its single images; None where they are not known.
        why_no_numbers: Why they are not.
    """

    file: Path
    means: Mapping[tuple[str, str, str], float | None]
    mask_space: str
    keep: str
    numbers: ImageNumbers | None = None
    why_no_numbers: str = ""

    @property
    def methods(self) -> list[str]:
        """The methods that it can be compared with."""
        return [name for name in dict.fromkeys(key[0] for key in self.means) if name != FLOOR]

    def check_fits(self, nus: Sequence[float], mask_space: str, keep: str) -> None:
        """Refuse a baseline that was measured otherwise.

        Raises:
            LcamError: It hides or keeps pixels otherwise, or has none of the ν.
        """
        for option, then, now in (
            ("--mask-space", self.mask_space, mask_space),
            ("--keep", self.keep, keep),
        ):
            if then != now:
                raise LcamError(
                    f"--worse-than {self.file} was measured with {option} {then}, not {now}",
                    f"measure with {option} {then}, or name another file",
                )
        there = list(dict.fromkeys(key[1] for key in self.means))
        if not any(nu_key(nu) in there for nu in nus):
            raise LcamError(
                f"--worse-than {self.file} was measured at --nu {','.join(there)}",
                f"ask for one of these, not {','.join(map(nu_key, nus))} alone",
            )

    def check_methods(self, methods: Sequence[str]) -> list[str]:
        """Return the methods that it does not have.

        Raises:
            LcamError: It has none of them.
        """
        named = [name for name in methods if name != FLOOR]
        missing = [name for name in named if name not in self.methods]
        if len(missing) == len(named):
            raise LcamError(
                f"--worse-than {self.file} has no {', '.join(named)}, "
                f"but {', '.join(self.methods) or 'no method'}",
                "name the result of an earlier run of the same method",
            )
        return missing


def read_baseline(file: Path) -> Baseline:
    """Read an earlier result, and the numbers of its images where they lie beside it.

    Raises:
        LcamError: It cannot be read, or is no JSON of ``lcam evaluate`` or ``lcam compare``.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError
        content = json.loads(file.read_text("utf-8"))
        baseline = _baseline(file, content)
    except OSError as error:
        raise LcamError(
            f"cannot read --worse-than {file}: {error.strerror or error}",
            "name the JSON of an earlier run: lcam evaluate --out baseline.json",
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise LcamError(
            f"--worse-than {file} is not a result of lcam evaluate or compare ({SCHEMA})",
            "pass a file that one of them wrote: --out baseline.json",
        ) from None
    return _with_numbers(baseline, content.get("per_image"))


def _baseline(file: Path, content: dict[str, Any]) -> Baseline:
    if content["schema"] != SCHEMA:
        raise ValueError
    means: dict[tuple[str, str, str], float | None] = {}
    for row in content["rows"]:
        for nu, scores in row["nu"].items():
            for measure in GATED:
                value = scores[measure]
                if value is not None and not math.isfinite(float(value)):
                    raise ValueError
                means[str(row["method"]), nu_key(float(nu)), measure] = (
                    None if value is None else float(value)
                )
    return Baseline(
        file, means, str(content.get("mask_space", "pixel")), str(content.get("keep", "values"))
    )


def _with_numbers(baseline: Baseline, name: object) -> Baseline:
    """Add the numbers of single images, if they are there and are the baseline's own."""
    if not isinstance(name, str):
        return replace(baseline, why_no_numbers="it was made without --per-image FILE.csv")
    # The file beside it, whatever folder the JSON tells of: it may come from anywhere.
    beside = baseline.file.parent / Path(name).name
    if beside.suffix.lower() != ".csv":
        why = f"{beside.name} is not read, but *.csv is"
        return replace(baseline, why_no_numbers=why)
    try:
        numbers = read_image_numbers(beside)
    except OSError as error:
        return replace(baseline, why_no_numbers=f"cannot read {beside}: {error.strerror}")
    except ValueError:
        return replace(baseline, why_no_numbers=f"{beside} was not written by --per-image")
    for (method, nu, measure), mean in baseline.means.items():
        column, paths = f"{measure}_{nu}", sorted(numbers.paths(csv_text(method)))
        known = column in numbers.columns and bool(paths)
        found = numbers.of(csv_text(method), column, paths) if known else np.array([np.nan])
        found = found[np.isfinite(found)]
        same = len(found) > 0 if mean is not None else len(found) == 0
        if not same or (mean is not None and abs(found.mean() - mean) > _SAME):
            return replace(baseline, why_no_numbers=f"{beside} is of another run")
    return replace(baseline, numbers=numbers)


def check_worse(
    results: Results, baseline: Baseline, by: float, numbers: ImageNumbers | None, seed: int
) -> tuple[list[Gate], str]:
    """Hold every method to what it was in an earlier run.

    Args:
        results: What was measured now.
        baseline: What was measured then.
        by: How much worse a mean may be, in percentage points.
        numbers: Those of the single images now; None where nobody gathered them.
        seed: Of the intervals.

    Returns:
        The gates, and a line that says how the runs were compared where it was not image by image.
    """
    gates: list[Gate] = []
    unpaired = ""
    for row in results.rows:
        if row.method not in baseline.methods:
            continue
        paths, why = _paired_images(row.method, baseline, numbers)
        unpaired = unpaired or why
        for nu, scores in row.scores.nu.items():
            for measure in GATED:
                then = baseline.means.get((row.method, nu_key(nu), measure))
                if then is None:
                    continue
                now = scores[measure].mean
                pair = None
                if paths and numbers is not None and baseline.numbers is not None:
                    column, name = f"{measure}_{nu_key(nu)}", csv_text(row.method)
                    if column in baseline.numbers.columns:
                        pair = numbers.of(name, column, paths) - baseline.numbers.of(
                            name, column, paths
                        )
                gates.append(
                    _gate(
                        row.method, measure, nu, (now, then), by, _difference(pair, measure, seed)
                    )
                )
    if unpaired:
        unpaired = f"compared with {baseline.file} by means, not image by image: {unpaired}"
    return gates, unpaired


def _paired_images(
    method: str, baseline: Baseline, numbers: ImageNumbers | None
) -> tuple[list[str], str]:
    """Return the images of both runs, or why they cannot be compared one by one."""
    if baseline.numbers is None or numbers is None:
        return [], baseline.why_no_numbers
    now, then = numbers.paths(csv_text(method)), baseline.numbers.paths(csv_text(method))
    if now != then:
        return [], f"only {len(now & then)} of {len(now)} images are the same"
    return sorted(now), ""


@dataclass(frozen=True)
class _Difference:
    """How much worse a method has become on the same images, in percentage points."""

    worse_by: float
    ci95: tuple[float, float]
    images: int


def _difference(
    pair: np.ndarray[Any, np.dtype[np.float64]] | None, measure: str, seed: int
) -> _Difference | None:
    if pair is None:
        return None
    pair = pair[np.isfinite(pair)] * (1 if measure == "ad" else -1)
    if not len(pair):
        return None
    (low,), (high,) = percentiles(bootstrap(pair[None], seed).T)
    return _Difference(float(pair.mean()), (float(low), float(high)), len(pair))


def _gate(
    method: str,
    measure: str,
    nu: float,
    means: tuple[float | None, float],
    by: float,
    paired: _Difference | None,
) -> Gate:
    now, then = means
    title, name = f"{measure.upper()}({nu_key(nu)})", printable(method)
    more: dict[str, Any] = {"baseline": round(then, 4), "paired": paired is not None}
    if now is None:
        words = f"{name}: {title} is not defined any more; it was {then:.2f}"
        return Gate("worse-than", method, measure, nu, None, by, False, words, more)
    worse = paired.worse_by if paired else (now - then) * (1 if measure == "ad" else -1)
    worse = round(worse, _ROUNDED) + 0.0
    more["worse_by"] = round(worse, 4)
    how = ""
    if paired:
        more |= {
            "worse_ci95": [round(end, 4) + 0.0 for end in paired.ci95],
            "images": paired.images,
        }
        low, high = paired.ci95
        how = f", 95% {low:.2f} to {high:.2f} on the same {paired.images} images"
    passed = worse <= by
    words = f"{name}: {title} was {then:.2f} and is {now:.2f}, {worse:.4g} points worse{how}"
    words = "" if passed else f"{words}; {by:g} are allowed"
    return Gate("worse-than", method, measure, nu, now, by, passed, words, more)
