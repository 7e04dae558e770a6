"""What a masked forward pass costs: Score-CAM's and RISE's rates over that of bare forwards.

    python benchmarks/masked_forwards.py resnet50

Bare is the best of the engine's network and the quickest that one writes with PyTorch alone, of
the same precision. All take turns, so that whatever else the machine does meets all of them; the
ratios are taken within a round. Weights are random: no rate depends on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import side_by_side as s
import torch

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.scorecam import ScoreCam


class Counter:
    """Counts the images that go through a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.pictures = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, _network: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        self.pictures += len(given[0])


def best_bare(engine: Engine, plain: s.PlainNetwork, batch_size: int, seconds: float) -> float:
    """Pictures a second of the better network, at the better of two batch sizes."""
    sizes = (batch_size, max(1, batch_size // 2))
    own = (s.bare_rate(engine, n, seconds) for n in sizes)
    return max(*own, *(plain.rate(n, seconds) for n in sizes))


def rate(engine: Engine, counter: Counter, work: Callable[[], object]) -> float:
    """Pictures through the network a second."""
    counter.pictures = 0
    start = s.now(engine)
    work()
    return counter.pictures / (s.now(engine) - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=4, help="full batches a turn")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each bare batch size")
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
    # As many channels and masks as fill the batches of a turn, over two images.
    masks = given.batches * n // 2
    some = Forward(seen.x, seen.A[:, :masks], seen.logits)
    plain = s.PlainNetwork(given.backbone, engine)
    methods: dict[str, Callable[[], object]] = {
        "Score-CAM": lambda: ScoreCam(masks)(engine, some, classes),
        "RISE": lambda: Rise(masks)(engine, seen, classes),
    }
    for work in methods.values():
        work()
    rounds = [
        {"bare": best_bare(engine, plain, n, given.seconds)}
        | {name: rate(engine, counter, work) for name, work in methods.items()}
        for _ in range(given.rounds)
    ]
    print(s.machine())
    print(
        f"{given.backbone}, {engine.hardware.name}, {engine.hardware.precision}, batch {n}, "
        f"{given.rounds} rounds: median (lowest to highest)"
    )
    for name in ("bare", *methods):
        print(s.row(name, [r[name] for r in rounds], "images/s"))
    for name in methods:
        print(s.row(f"{name} / bare", [r[name] / r["bare"] for r in rounds]))


if __name__ == "__main__":
    main()
