"""How long a comparison will take, said before hours begin."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.measures.sweep import Candidate
from lcam_cli.measures.task import Task
from lcam_cli.runs.compare_plan import Plan
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.reporter import Reporter

_LONG = 60.0  # seconds
_FEW_PASSES = 500
"""Of the network: so few are done before anybody asks, and would hardly be worth measuring."""

_PICTURES = 8  # in the batch that is measured
_ROUNDS = 2


def tell_estimate(
    comparison: Comparison,
    plan: Plan,
    ranks: int,
    reporter: Reporter,
    forward_seconds: Callable[[Engine], float] | None = None,
) -> None:
    """Say how long a comparison will take, where that is more than a minute.

    The forward passes that methods and measures ask for are counted, and one is measured. Reading
    images, drawing and gradients are left out: it is the order of the time that matters.

    Args:
        comparison: What is compared.
        plan: What is left to do of it.
        ranks: How many processes share it.
        reporter: Is told, one line, where anybody listens.
        forward_seconds: Measures an engine's forward pass of one image; None for the clock.
    """
    if not reporter.takes_info:
        return
    passes = forward_passes(comparison, plan)
    total = sum(passes.values())
    if total < _FEW_PASSES:
        return
    try:
        seconds = total * (forward_seconds or measured_forward)(comparison.engine) / ranks
    except Exception:  # the run itself says what is wrong with the network
        return
    if seconds < _LONG:
        return
    name, most = max(passes.items(), key=lambda one: one[1])
    share = f", {most / total:.0%} of them for {name}" if len(passes) > 1 else ""
    reporter.info(
        f"this will take about {_duration(seconds)}: {total:,} forward passes{share}; "
        "--max-images N uses fewer images"
    )


def forward_passes(comparison: Comparison, plan: Plan) -> dict[str, int]:
    """Return how many images go through the network for each method, what it scores included."""
    found: dict[str, int] = {}
    of = {candidate.name: candidate for candidate in comparison.candidates}
    for names, shares in plan.sweeps:
        pictures = sum(len(part) for share in shares for part in share)
        for name in names:
            found[name] = pictures * _passes_a_picture(of[name], comparison.task)
    return found


def _passes_a_picture(candidate: Candidate, task: Task) -> int:
    """Passes for the maps of an image's classes, and for all that is scored of them."""
    asked = {one for quantity in task.quantities for one in quantity.perturbations}
    own = max(1, candidate.method.forward_passes)
    again = own * sum(getattr(one, "explanations", 0) for one in asked)
    masked = sum(getattr(one, "passes", 1) for one in asked)
    return task.choice.per_picture * (own + masked + again)


def measured_forward(engine: Engine) -> float:
    """Return the seconds that an image of a small batch takes to pass the network."""
    shape = engine.backbone.preprocess.input_shape
    count = 1 if engine.backbone.one_by_one else min(_PICTURES, engine.batch_size)
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)).to(engine.device)
    found = []
    for _ in range(1 + _ROUNDS):  # the first makes code and takes memory
        began = time.perf_counter()
        engine.scores(x).cpu()
        found.append(time.perf_counter() - began)
    return min(found[1:]) / count


def _duration(seconds: float) -> str:
    """E.g. ``"3 min"`` or ``"2 h 10 min"``."""
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 10 and rest else f"{hours} h"
