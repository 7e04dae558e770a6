"""What imputing a masked image costs, as a share of a forward pass.

    python benchmarks/imputation.py mobilenet_v2

The two take turns in one process, so that whatever else the machine does meets both, and the
ratios are taken within a round: by the clock, and by processor time, which other programs disturb
less. An imputation is one of the eight that ROAD asks for of a map, on images with the spectrum
of photographs: of smooth maps, upsampled from 7×7 cells as class activation maps are, and of noise.
Weights are random: no rate depends on them.
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

MAPS = ("smooth maps", "noisy maps")


def pictures(count: int, side: int) -> Tensor:
    """Draw noise whose amplitudes fall as 1/f, as in photographs: (count, 3, side, side)."""
    draw = torch.Generator().manual_seed(0)
    frequency = torch.fft.fftfreq(side).unsqueeze(1).hypot(torch.fft.rfftfreq(side))
    white = torch.randn(count, 4, side, side, generator=draw)
    spectrum = torch.fft.rfft2(white) / frequency.clamp(min=1 / side)
    planes = torch.fft.irfft2(spectrum, s=(side, side))
    planes = planes / planes.std((2, 3), keepdim=True)
    # Brightness, which the three colours share, and what is of each alone.
    x = 0.5 + 0.2 * (planes[:, :1] + 0.4 * planes[:, 1:])
    return x.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def removals(kind: str, count: int, side: int) -> list[Tensor]:
    """Which pixels each of ROAD's steps removes, bool (count, side, side)."""
    draw = torch.Generator().manual_seed(1)
    cells = 7 if kind == "smooth maps" else side
    V = torch.rand(count, 1, cells, cells, generator=draw)
    V = interpolate(V, (side, side), mode="bilinear")[:, 0]
    return list(RoadSteps().removed(pixel_ranks(V)))


def seconds(engine: Engine, work: Callable[[], object], pictures: int) -> tuple[float, float]:
    """Of one image: by the clock, and of processor time."""

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
    return f"{name:<48}{middle:>8.3f} {unit:<3} ({min(values):.3f} to {max(values):.3f})"


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
    n, side = engine.batch_size, backbone.preprocess.image_size
    x = pictures(n, side).to(engine.device)
    print(
        f"{given.backbone}, {engine.hardware.name}, {torch.get_num_threads()} threads, batch {n}, "
        f"{given.rounds} rounds: median (lowest to highest)"
    )
    for kind in MAPS:
        removed = [one.to(engine.device) for one in removals(kind, n, side)]

        def forward(steps: Sequence[Tensor] = removed) -> None:
            for _ in steps:
                engine.logits(x)

        def imputing(steps: Sequence[Tensor] = removed) -> None:
            for one in steps:
                impute(x, one)

        forward()
        imputing()
        count = n * len(removed)
        rounds = [
            (seconds(engine, forward, count), seconds(engine, imputing, count))
            for _ in range(given.rounds)
        ]
        print(kind)
        for i, what in enumerate(("by the clock", "processor time")):
            passes, imputed = ([one[j][i] * 1e3 for one in rounds] for j in (0, 1))
            print(_row(f"a forward pass, {what}", passes, "ms"))
            print(_row(f"an imputed image, {what}", imputed, "ms"))
            ratios = [b / a for a, b in zip(passes, imputed, strict=True)]
            print(_row(f"imputed image / forward pass, {what}", ratios))


if __name__ == "__main__":
    main()
