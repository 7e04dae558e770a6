"""The list of methods: of all there are, or of what can explain a network, and at what cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lcam_cli.methods.families import FAMILIES
from lcam_cli.reports.text import short_weights, wrapped

SCHEMA = "lcam-methods/1"

_SUMMARY = 40
"""Columns that a method's summary needs beside the others; it stands below them in fewer."""


@dataclass(frozen=True)
class Duration:
    """How long a map takes, derived from how long passes take.

    Attributes:
        seconds: A map, on images in batches, without reading them.
        at_most: Whether the method may skip some of its passes.
    """

    seconds: float
    at_most: bool = False

    def __str__(self) -> str:
        return ("≤ " if self.at_most else "") + in_words(self.seconds)


@dataclass(frozen=True)
class MethodLine:
    """A method.

    Attributes:
        name: As users type it.
        family: One of ``FAMILIES``.
        summary: What it is.
        cost: Forward passes a map, in words.
        needs: What a network must have for it, in words.
        duration: How long a map takes; None where that is not known.
        why_not: Why it cannot explain the network; ``""`` where it can, or no network is asked of.
        remedy: What would help; mostly nothing.
    """

    name: str
    family: str
    summary: str
    cost: str
    needs: str
    duration: Duration | None = None
    why_not: str = ""
    remedy: str = ""

    @property
    def explains(self) -> bool:
        """Whether it can explain the network."""
        return not self.why_not


@dataclass(frozen=True)
class NetworkFacts:
    """A network on this machine.

    Attributes:
        backbone: Its name.
        weights: What identifies its weights.
        layer: The target layer; ``""`` where it has none.
        shape: (K, P, Q) of A; None without a layer.
        classes: R.
        hardware: What it runs on, in words.
        precision: What it computes in.
        passes: Seconds an image of each kind of pass, measured, by what it is.
    """

    backbone: str
    weights: str
    layer: str
    shape: tuple[int, int, int] | None
    classes: int
    hardware: str
    precision: str
    passes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The method to take.

    Attributes:
        name: Its.
        reason: Why.
        command: What explains images with it.
    """

    name: str
    reason: str
    command: str


@dataclass(frozen=True)
class MethodList:
    """Methods, by families.

    Attributes:
        methods: All there are.
        network: What they are asked to explain; None where that is no matter.
        recommended: Which of them to take for it; None where none can, or no network is asked of.
    """

    methods: tuple[MethodLine, ...]
    network: NetworkFacts | None = None
    recommended: Choice | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data: ``lcam-methods/1``."""
        content: dict[str, Any] = {"schema": SCHEMA}
        if self.network is not None:
            content |= {
                "network": _network(self.network),
                "measured_ms": {k: _ms(v) for k, v in self.network.passes.items()},
                "recommended": self.recommended
                and {
                    "method": self.recommended.name,
                    "reason": self.recommended.reason,
                    "command": self.recommended.command,
                },
            }
        known = self.network is not None
        content["methods"] = [_method(one, of_network=known) for one in self.methods]
        return content


def in_words(seconds: float) -> str:
    """Return e.g. ``62 ms``, ``3.4 s`` or ``12 min``."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def to_json(found: MethodList) -> str:
    """Return ``lcam-methods/1``."""
    return json.dumps(found.to_dict(), indent=2, ensure_ascii=False)


def to_text(found: MethodList, width: int | None = None) -> str:
    """Return the list as plain text, families under their headings.

    Args:
        found: The methods.
        width: Columns of the terminal, for which lines are broken between words; None for whole
            lines.
    """
    network = found.network
    if network is None:
        titles = ("name", "forward passes", "needs")
        lines = _families(found.methods, titles, lambda one: (one.name, one.cost, one.needs), width)
        return "\n".join(
            [
                *lines,
                "",
                *wrapped(
                    "K maps of P×Q cells at the layer. --methods of compare and sanity also "
                    "accepts families, one-pass and all.",
                    width,
                ),
                *wrapped(
                    "lcam methods --backbone NAME: which of them can explain a network, and "
                    "which to use.",
                    width,
                ),
            ]
        )
    able = [one for one in found.methods if one.explains]
    titles = ("name", "time per map", "forward passes")
    lines = [*wrapped(_heading(network), width), ""]
    if found.recommended is not None:
        best = found.recommended
        lines += [*wrapped(f"Use {best.name}: {best.reason}.", width), f"  {best.command}", ""]
    lines += _families(
        able, titles, lambda one: (one.name, str(one.duration or "?"), one.cost), width
    )
    left = _left_out(found.methods)
    if left:
        lines += [
            "",
            "These cannot explain it:",
            *(part for line in left for part in wrapped(line, width)),
        ]
    measured = ", ".join(f"{name} {in_words(s)}" for name, s in network.passes.items())
    return "\n".join(
        [
            *lines,
            "",
            *wrapped(f"Measured here, per image: {measured}.", width),
            *wrapped(
                "Times per map are computed from these: a forward pass and the method's own "
                "passes; ≤ where it may skip some. They do not include reading images.",
                width,
            ),
        ]
    )


def _heading(network: NetworkFacts) -> str:
    where = "no layer"
    if network.shape is not None:
        K, P, Q = network.shape
        where = f"layer {network.layer} ({P}×{Q}×{K})"
    return (
        f"{network.backbone} ({short_weights(network.weights)}), {where}, "
        f"{network.classes} classes; {network.hardware}, {network.precision}"
    )


def _families(
    methods: Sequence[MethodLine], titles: tuple[str, ...], cells: Any, width: int | None
) -> list[str]:
    rows = [(one, cells(one)) for one in methods]
    widths = [max(len(title), *(len(row[i]) for _, row in rows)) for i, title in enumerate(titles)]

    def aligned(words: Sequence[str]) -> str:
        return "  ".join(f"{word:<{width}}" for word, width in zip(words, widths, strict=True))

    def with_summary(row: Sequence[str], summary: str) -> list[str]:
        start = f"{aligned(row)}  "
        if width is None or width - len(start) >= _SUMMARY:
            return wrapped(summary, width, start)
        return [aligned(row).rstrip(), *wrapped(summary, width, "    ")]

    lines = [aligned(titles).rstrip()]
    for family, about in FAMILIES.items():
        members = [(one, row) for one, row in rows if one.family == family]
        if members:
            lines += ["", *wrapped(f"[{family}] {about}", width)]
            lines += [line for one, row in members for line in with_summary(row, one.summary)]
    return lines


def _left_out(methods: Sequence[MethodLine]) -> list[str]:
    """A line for each reason, with the methods that fail for it, and one for what would help."""
    reasons: dict[tuple[str, str], list[MethodLine]] = {}
    for one in methods:
        if not one.explains:
            shared = one.why_not.removeprefix(f"{one.name} ")
            reasons.setdefault((shared, one.remedy), []).append(one)
    lines = []
    for (shared, remedy), members in reasons.items():
        (first, *others) = members
        own = first.why_not if not others else f"each {shared}"
        if first.why_not == shared:  # it does not begin with the method's name
            own = shared
        lines.append(f"  {', '.join(one.name for one in members)}: {own}")
        if remedy:
            lines.append(f"    to fix this: {remedy}")
    return lines


def _network(network: NetworkFacts) -> dict[str, Any]:
    return {
        "backbone": network.backbone,
        "weights": network.weights,
        "layer": network.layer or None,
        "feature_shape": None if network.shape is None else list(network.shape),
        "classes": network.classes,
        "hardware": network.hardware,
        "precision": network.precision,
    }


def _method(one: MethodLine, *, of_network: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": one.name,
        "family": one.family,
        "summary": one.summary,
        "forward_passes": one.cost,
        "needs": one.needs,
    }
    if of_network:
        content |= {
            "explains": one.explains,
            "why_not": one.why_not or None,
            "remedy": one.remedy or None,
            "ms": None if one.duration is None else _ms(one.duration.seconds),
            "at_most": one.duration is not None and one.duration.at_most,
        }
    return content


def _ms(seconds: float) -> float:
    return float(f"{seconds * 1000:.4g}")
