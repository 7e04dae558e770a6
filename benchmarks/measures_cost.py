"""What each measure costs beside AD and IC: its forward passes a map, and its time over theirs.

    python benchmarks/measures_cost.py mobilenet_v2

Maps are Grad-CAM's, at three ν. AD and IC alone take turns with AD, IC and one measure more (`ag`,
which costs no pass, among them), so that whatever else the machine does meets both; ratios are
taken within a round. On a processor the seconds that this process computes are counted, of all its
threads, so that others count little. The images' own forward pass is made before. Weights are
random: no time depends on them. Measures that ask for objects are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from side_by_side import machine, now
from torch import Tensor

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.measures.measure import Kept, Measure, quantities
from lcam_cli.measures.registry import ALWAYS, MEASURES, make_measures
from lcam_cli.measures.scoring import numbers_of, score_maps
from lcam_cli.measures.view import BatchView, MapView
from lcam_cli.methods.gradient import GradCam

NUS = (100.0, 50.0, 15.0)


class CountingEngine(Engine):
    """Counts the images that go through the network: each is normalised once."""

    pictures = 0

    def normalise(self, x: Tensor) -> Tensor:
        """Count, and normalise."""
        self.pictures += len(x)
        return super().normalise(x)


class Maps:
    """A batch with its maps, measured again and again."""

    def __init__(self, engine: CountingEngine, x: Tensor) -> None:
        self._engine = engine
        self._forward = engine.forward(x)
        self._classes = self._forward.predicted
        self._V = GradCam()(engine, self._forward, self._classes).saliency

    def measure(self, measures: Sequence[Measure]) -> tuple[float, float]:
        """Measure the maps, as a comparison does.

        Returns:
            Seconds, and forward passes a map.
        """
        engine, again = self._engine, any(measure.explains_again for measure in measures)
        view = MapView(
            BatchView(engine, self._forward, "pixel"),
            self._V,
            self._classes,
            self._forward.confidence(self._classes),
            GradCam() if again else None,
        )
        wanted = quantities(measures, NUS)
        engine.pictures, start = 0, seconds(engine)
        numbers_of(wanted, score_maps(view, wanted, [Kept(nu) for nu in NUS]))
        return seconds(engine) - start, engine.pictures / len(self._V)


def seconds(engine: Engine) -> float:
    """What this process has computed so far, or on a GPU the time."""
    return time.process_time() if engine.device.type == "cpu" else now(engine)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--metrics", help="names by commas; default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()

    engine = CountingEngine(
        load_backbone(given.backbone, "none"),
        device=given.device,
        precision=given.precision,
        batch_size=given.batch_size,
    )
    side, n = engine.backbone.preprocess.image_size, engine.batch_size
    x = torch.rand(n, 3, side, side, device=engine.device)
    maps = Maps(engine, x.contiguous(memory_format=torch.channels_last))
    names = (given.metrics or ",".join(MEASURES)).split(",")
    named = [n for n in names if n not in ALWAYS and not MEASURES[n].needs_objects]
    both = make_measures(ALWAYS)
    maps.measure(both)
    passes = maps.measure(both)[1]
    print(machine())
    print(
        f"{given.backbone}, {engine.hardware.name}, {engine.hardware.precision}, batch {n}, "
        f"{given.rounds} rounds; AD and IC alone: {passes:.1f} passes a map\n"
        f"{'with':<14}{'passes':>8}   time over AD's and IC's: median (lowest to highest)"
    )
    for name in named:
        more = make_measures([name])
        maps.measure(more)
        ratios = []
        for turn in range(given.rounds):
            first, second = (both, more) if turn % 2 else (more, both)
            found = {id(one): maps.measure(one) for one in (first, second)}
            ratios.append(found[id(more)][0] / found[id(both)][0])
            passes = found[id(more)][1]
        middle = statistics.median(ratios)
        print(f"{name:<14}{passes:>8.1f}{middle:>9.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
