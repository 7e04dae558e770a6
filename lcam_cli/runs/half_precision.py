"""What a run says of half precision on a CPU: where it would pay, and where it does not.

Imports torch.
"""

from __future__ import annotations

import time

import torch

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.precision import cpu_computes_bf16
from lcam_cli.networks.foreign import ForeignNetwork
from lcam_cli.runs.options import EngineOptions
from lcam_cli.runs.reporter import Reporter

MANY_PASSES = 5000
"""Of a run in which measuring costs a hundredth at most: about 50 images' time."""

COSTS_MAPS = "it changes the predicted class of a few images in 100, where two classes are close"
COSTS_MEASURES = "it also changes AD and IC by a point or two"
COSTS_TRAINING = "its rounding affects what is learned"

_PICTURES, _ROUNDS = 8, 2
_PAYS = 1.2


def warn_of_emulation(engine: Engine, reporter: Reporter) -> None:
    """Say where bf16 was asked of a CPU that has no instructions for it."""
    on_cpu = engine.device.type == "cpu" and engine.hardware.precision == "bf16"
    if on_cpu and not cpu_computes_bf16():
        reporter.warn(
            "this processor has no bf16 instructions: bf16 is emulated, up to 25 times slower than "
            "fp32 (docs/precision.md)",
            once=True,
        )


def hint_at_bf16(
    engine: Engine, options: EngineOptions, passes: int, costs: str, reporter: Reporter
) -> None:
    """Say, with a number that is measured here, where a long run would be quicker in bf16.

    Args:
        engine: Of the run.
        options: What the user asked for: who names a precision is told nothing.
        passes: Images that go through the network in the run, masked ones included.
        costs: What bf16 changes, as the end of a sentence.
        reporter: Is told, one line, where anybody listens.
    """
    asked = options.precision != "auto" or engine.hardware.precision != "fp32"
    here = engine.device.type == "cpu" and not isinstance(engine.backbone.network, ForeignNetwork)
    if asked or not here or passes < MANY_PASSES or not reporter.takes_info:
        return
    if not cpu_computes_bf16():
        return
    try:
        gain = speed_up(engine.backbone)
    except Exception:  # it does not run so, or memory does not suffice: nothing to recommend
        return
    if gain >= _PAYS:
        reporter.info(
            f"this processor has bf16 instructions: --precision bf16 would be about {gain:.1f} "
            f"times as fast; {costs} (docs/precision.md)"
        )


@torch.no_grad()
def speed_up(backbone: Backbone) -> float:
    """How many times as fast a network in fp32 is in bf16; it is in fp32 again afterwards."""
    count = 1 if backbone.one_by_one else _PICTURES
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, *backbone.preprocess.input_shape, generator=generator)
    x = x.contiguous(memory_format=backbone.memory_format)

    def seconds() -> float:
        backbone.forward(x)  # not counted: code is made and memory taken
        found = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            backbone.forward(x)
            found.append(time.perf_counter() - start)
        return min(found)

    in_fp32 = seconds()
    with backbone.computing_in(torch.bfloat16):
        in_bf16 = seconds()
    return in_fp32 / in_bf16
