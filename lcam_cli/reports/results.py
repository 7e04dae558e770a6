"""The results of a run as data, and as the JSON object ``lcam-results/1``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lcam_cli.measures.measure import Measure
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.score import Difference, Score, Scores
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.version import __version__

if TYPE_CHECKING:
    from lcam_cli.maps.record import Tiled
    from lcam_cli.measures.accuracy import Accuracy
    from lcam_cli.reports.gate import Gate

SCHEMA = "lcam-results/1"
FLOOR = "random"
"""The method every other must beat; it is shown, but neither ranked nor gated."""


@dataclass(frozen=True)
class Row:
    """One method's results.

    Attributes:
        method: Its name.
        scores: What the measures say.
        forward_passes: Forward passes a map costs; None where the maps' file does not say.
        mean_saliency: Mean of V over all maps, in [0, 1].
        images_per_second: How fast maps were scored, or made; see ``Results.speed``.
        align: Whether the maps are placed by the receptive fields of their cells (else these tile
            the image evenly); None where the maps' file does not say.
        flat_maps: How many of the maps scored have one value everywhere; None where nobody counted.
        tiled: Why its cells tile the image; None where they do not, there are none, or the maps'
            file does not say.
        classless: Whether its map of an image is the same whatever class is explained.
    """

    method: str
    scores: Scores
    forward_passes: int | None
    mean_saliency: float
    images_per_second: float
    align: bool | None = None
    flat_maps: int | None = None
    tiled: Tiled | None = None
    classless: bool = False


@dataclass(frozen=True)
class Results:
    """What was measured, on what, with what.

    Attributes:
        backbone: The classifier's name.
        weights: The weights' name, or ``sha256:…`` of their file.
        layer: The module whose output is A.
        images: How many images were scored.
        skipped: How many could not be read.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: The device's name.
        rows: One a method.
        mask_space: ``"pixel"`` or ``"normalized"``: hidden with black, or with the mean colour.
        keep: ``"values"`` or ``"whole"``: whether kept pixels have the map's value, or are whole.
        activation: What turned logits into scores, ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        speed: What the rows' speeds are of: ``"images"`` explained, or maps ``"scored"``.
        accuracy: How often the classifier itself is right; None where labels were not given.
        undefined: By measure, how many maps it is not defined for, which are left out of its mean;
            None where nobody counted.
        measures: What was measured, in the order in which it is shown.
        per_image: The name of the file that has the numbers of every image; empty where none was
            written.
        gates: What every threshold says; None where none was asked for.
    """

    backbone: str
    weights: str
    layer: str
    images: int
    skipped: int
    precision: str
    device: str
    rows: Sequence[Row]
    mask_space: str = "pixel"
    keep: str = "values"
    activation: str = "softmax"
    speed: str = "images"
    accuracy: Accuracy | None = None
    undefined: Mapping[str, int] | None = None
    measures: Sequence[Measure] = field(default_factory=make_measures)
    per_image: str = ""
    gates: Sequence[Gate] | None = None

    @property
    def nus(self) -> tuple[float, ...]:
        """Every ν of any row, in the order first met."""
        return tuple(dict.fromkeys(nu for row in self.rows for nu in row.scores.nu))

    @property
    def nu_measures(self) -> list[Measure]:
        """Those that are one at each ν."""
        return [measure for measure in self.measures if measure.per_nu]

    @property
    def plain_measures(self) -> list[Measure]:
        """Those of one number an image."""
        return [measure for measure in self.measures if not measure.per_nu]


def to_json(results: Results) -> str:
    """Return the ``lcam-results/1`` object; numbers have four decimals, keys a fixed order.

    What is not defined is null. Where labels were given, ``accuracy`` holds ``top1`` and ``top5``,
    in percent of ``labelled``.
    """
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "backbone": results.backbone,
        "weights": results.weights,
        "layer": results.layer,
        "images": results.images,
        "skipped": results.skipped,
        "precision": results.precision,
        "device": results.device,
        "rows": [_row(results, row) for row in results.rows],
        "mask_space": results.mask_space,
        "activation": results.activation,
        "lcam_version": __version__,
        "keep": results.keep,
    }
    if results.undefined is not None:
        content["undefined"] = dict(results.undefined)
    if results.accuracy is not None:
        content["accuracy"] = {
            "top1": _rounded(results.accuracy.top1),
            "top5": _rounded(results.accuracy.top5),
            "labelled": results.accuracy.count,
        }
    if results.per_image:
        content["per_image"] = results.per_image
    if results.gates is not None:
        content["gates"] = [gate.to_dict() for gate in results.gates]
    return json.dumps(content, indent=2, allow_nan=False)


def _row(results: Results, row: Row) -> dict[str, Any]:
    plain = row.scores.plain
    return {
        "method": row.method,
        "nu": {nu_key(nu): _at_nu(results, scores) for nu, scores in row.scores.nu.items()},
        "forward_passes": row.forward_passes,
        "mean_saliency": round(row.mean_saliency, 4),
        "images_per_second": round(row.images_per_second, 4),
        **{m.name: _plain(m, plain[m.name]) for m in results.plain_measures if m.name in plain},
        **({} if row.align is None else {"align": row.align}),
        **({} if row.flat_maps is None else {"flat_maps": row.flat_maps}),
        **({"explains_no_class": True} if row.classless else {}),
    }


def _at_nu(results: Results, scores: Mapping[str, Score]) -> dict[str, Any]:
    """All measures at one ν: first the means, then the intervals, then the differences."""
    found = {m.name: scores[m.name] for m in results.nu_measures if m.name in scores}
    content: dict[str, Any] = {name: _rounded(score.mean) for name, score in found.items()}
    content |= {f"{name}_ci95": _bounds(score.ci95) for name, score in found.items()}
    for name, score in found.items():
        content |= _difference(f"{name}_", score.to_best)
    return content


def _plain(measure: Measure, score: Score) -> dict[str, Any]:
    return {
        measure.mean_key: _rounded(score.mean),
        "ci95": _bounds(score.ci95),
        **_difference("", score.to_best),
    }


def _difference(measure: str, difference: Difference | None) -> dict[str, Any]:
    if difference is None:
        return {}
    return {
        f"{measure}diff_to_best": round(difference.mean, 4) + 0.0,
        f"{measure}diff_ci95": _bounds(difference.ci95),
    }


def _bounds(interval: tuple[float, float] | None) -> list[float] | None:
    return interval and [round(bound, 4) + 0.0 for bound in interval]  # never -0.0


def _rounded(value: float | None) -> float | None:
    """With four decimals; nothing where it is not defined."""
    return None if value is None else round(value, 4)
