"""What imputing a masked picture costs, as a share of a forward pass.

    python benchmarks/imputation.py mobilenet_v2

The two take turns in one process, so that whatever else the machine does meets both, and the
ratios are taken within a round: by the clock, and by processor time, which other programs disturb
less. The pictures are smooth noise, and what is removed are ROAD's shares of upsampled random
cells, as of a class activation map. Weights are random: no rate depends on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.measures.curves import pixel_ranks
from lcam_cli.measures.imputation import impute
from lcam_cli.measures.road import RoadSteps
from lcam_cli.measures.threshold import kept_pixels


def inputs(count: int, side: int) -> tuple[Tensor, list[Tensor]]:
    """Pictures, (count, 3, side, side), and which pixels each of ROAD's steps removes."""
    draw = torch.Generator().manual_seed(0)
    x = interpolate(torch.rand(count, 3, 56, 56, generator=draw), (side, side), mode="bicubic")
    V = interpolate(torch.rand(count, 1, 7, 7, generator=draw), (side, side), mode="bilinear")
    ranks, pixels = pixel_ranks(V[:, 0]), side * side
    counts = [kept_pixels(share, pixels) for share in RoadSteps().shares]
    removed = [ranks < n for n in counts] + [ranks >= pixels - n for n in counts]
    return x.clamp(0, 1).contiguous(memory_format=torch.channels_last), removed


def seconds(engine: Engine, work: Callable[[], object], pictures: int) -> tuple[float, float]:
    """Of one picture: by the clock, and of processor time."""

    def now() -> tuple[float, float]:
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    start = now()
    work()
    clock, processor = (end - began for end, began in zip(now(), start, strict=True))
    return clock / pictures, processor / pictures


def _row(name: str, values: Sequence[float], unit: str = "") -> str:
    middle = statistics.median(values)
    return f"{name:<40}{middle:>8.3f} {unit:<3} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="default: torch's choice")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)

    backbone = load_backbone(given.backbone, "none")
    engine = Engine(backbone, device=given.device, batch_size=given.batch_size)
    n = engine.batch_size
    x, removed = inputs(n, backbone.preprocess.image_size)
    x, removed = x.to(engine.device), [one.to(engine.device) for one in removed]

    def forward() -> None:
        for _ in removed:
            engine.logits(x)

    def imputing() -> None:
        for one in removed:
            impute(x, one)

    forward()
    imputing()
    pictures = n * len(removed)
    rounds = [
        (seconds(engine, forward, pictures), seconds(engine, imputing, pictures))
        for _ in range(given.rounds)
    ]
    print(
        f"{given.backbone}, {engine.hardware.name}, {torch.get_num_threads()} threads, batch {n}, "
        f"{given.rounds} rounds: median (lowest to highest)"
    )
    for kind, what in enumerate(("by the clock", "processor time")):
        passes, imputed = ([one[i][kind] * 1e3 for one in rounds] for i in (0, 1))
        print(_row(f"a forward pass, {what}", passes, "ms"))
        print(_row(f"an imputed picture, {what}", imputed, "ms"))
        ratios = [b / a for a, b in zip(passes, imputed, strict=True)]
        print(_row(f"imputed picture / forward pass, {what}", ratios))


if __name__ == "__main__":
    main()
