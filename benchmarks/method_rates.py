"""What each method costs: its forward passes a second over those of the bare network.

    python benchmarks/method_rates.py resnet18

Pictures that enter the whole network are counted, so backward passes, masks and maps make the ratio
smaller. Methods that run only its two halves are counted by their #FW; those of the head alone
(ablationcam) can be above one. Method and bare network take turns; ratios are taken within a round.
Weights are random: no rate depends on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import torch
from masked_forwards import Counter, rate

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import METHODS, make_method


def bare(engine: Engine, batch: torch.Tensor, batches: int) -> None:
    """Nothing but the network, on a batch that is ready."""
    with torch.no_grad():
        for _ in range(batches):
            engine.backbone(batch)


def explain(engine: Engine, method: Method, x: torch.Tensor) -> None:
    """Forward pass and maps, as ``lcam explain`` does them."""
    seen = engine.forward(x)
    method(engine, seen, seen.predicted)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--methods", help="names by commas; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()

    backbone = load_backbone(given.backbone, "none")
    engine = Engine(
        backbone, device=given.device, precision=given.precision, batch_size=given.batch_size
    )
    side, n = backbone.preprocess.image_size, engine.batch_size
    counter = Counter(backbone.network)
    batch = torch.rand(n, 3, side, side, device=engine.device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    print(
        f"{given.backbone}, {engine.hardware.name}, {engine.hardware.precision}, batch {n}, "
        f"{given.rounds} rounds: median (lowest to highest) of the rate over the bare one"
    )
    for name in (given.methods or ",".join(METHODS)).split(","):
        try:
            method = make_method(name, backbone, options=MethodOptions(rise_masks=4 * n))
        except LcamError as error:
            print(f"{name:<20} {error.what}")
            continue
        passes = method.forward_passes
        x = batch if passes <= 1 else batch[:4]
        work = partial(explain, engine, method, x)
        work()
        ratios = []
        for _ in range(given.rounds):
            plain = rate(engine, counter, partial(bare, engine, batch, 2))
            start = time.perf_counter()
            counted = rate(engine, counter, work)
            seconds = time.perf_counter() - start
            ratios.append((counted or len(x) * max(1, passes) / seconds) / plain)
        middle = statistics.median(ratios)
        print(f"{name:<20}{middle:>7.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
