"""What a masked forward pass costs: Score-CAM's and RISE's rates over that of bare forwards.

    python benchmarks/masked_forwards.py resnet50

The three take turns, so that whatever else the machine does meets all of them; the ratios are
taken within a round. Weights are random: no rate depends on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.scorecam import ScoreCam


class Counter:
    """Counts the pictures that go through a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.pictures = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, _network: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        self.pictures += len(given[0])


def bare(engine: Engine, batch: torch.Tensor, batches: int) -> None:
    """Nothing but the network, on a batch that is ready."""
    with torch.no_grad(), engine.autocast():
        for _ in range(batches):
            engine.backbone(batch)


def rate(engine: Engine, counter: Counter, work: Callable[[], object]) -> float:
    """Pictures through the network a second."""
    counter.pictures = 0
    start = _now(engine)
    work()
    return counter.pictures / (_now(engine) - start)


def _now(engine: Engine) -> float:
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _row(name: str, values: list[float], unit: str) -> str:
    middle = statistics.median(values)
    return f"{name:<24}{middle:>9.3f} {unit:<11} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=4, help="full batches a turn")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()

    backbone = load_backbone(given.backbone, "none")
    engine = Engine(
        backbone, device=given.device, precision=given.precision, batch_size=given.batch_size
    )
    counter = Counter(backbone.network)
    side, n = backbone.preprocess.image_size, engine.batch_size
    batch = torch.rand(n, 3, side, side, device=engine.device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    seen = engine.forward(batch[:2])
    classes = seen.predicted
    # As many channels and masks as fill the batches of a turn, over two pictures.
    masks = given.batches * n // 2
    some = Forward(seen.x, seen.A[:, :masks], seen.logits)
    methods: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(engine, batch, given.batches),
        "Score-CAM": lambda: ScoreCam(masks)(engine, some, classes),
        "RISE": lambda: Rise(masks)(engine, seen, classes),
    }
    for work in methods.values():
        work()
    rounds = [
        {name: rate(engine, counter, work) for name, work in methods.items()}
        for _ in range(given.rounds)
    ]
    print(
        f"{given.backbone}, {engine.hardware.name}, {engine.hardware.precision}, batch {n}, "
        f"{given.rounds} rounds: median (lowest to highest)"
    )
    for name in methods:
        print(_row(name, [r[name] for r in rounds], "forwards/s"))
    for name in ("Score-CAM", "RISE"):
        print(_row(f"{name} / bare", [r[name] / r["bare"] for r in rounds], ""))


if __name__ == "__main__":
    main()
