"""What the number of classes costs an explanation: R = 1,000 and R = 100,000.

    python benchmarks/classes.py

The same network with a head of either size explains the same batch by L-CAM. The network's own
last layer grows with R, which no explanation can help; so each is taken over the bare forward pass
of its own network, in turns, within a round.
"""

from __future__ import annotations

import argparse

import side_by_side as s
import torch
import torchvision

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.lcam import LCam
from lcam_cli.networks.network import Network


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--classes", type=int, nargs=2, default=(1_000, 100_000))
    given = parser.parse_args()

    ratios: dict[int, list[float]] = {R: [] for R in given.classes}
    extra: dict[int, list[float]] = {R: [] for R in given.classes}
    engines = {R: engine_of(R) for R in given.classes}
    methods = {
        R: LCam(Attention(torch.randn(R, 1280), torch.zeros(R)), "lcam-img", {})
        for R in given.classes
    }
    x = torch.rand(32, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    for turn in range(given.rounds + 1):
        for R, engine in engines.items():
            bare = timed(engine, lambda e=engine: e.logits(x))
            whole = timed(engine, lambda e=engine, m=methods[R]: explain(e, m, x))
            if turn:
                ratios[R].append(whole / bare)
                extra[R].append(1000 * (whole - bare) / len(x))
    print(s.machine())
    for R in given.classes:
        print(s.row(f"R = {R}: explain / bare forward", ratios[R]))
        print(s.row(f"R = {R}: what the explanation adds", extra[R], "ms/image"))


def engine_of(R: int) -> Engine:
    """MobileNetV2 with R classes."""
    module = torchvision.models.mobilenet_v2(num_classes=R)
    names = [str(r) for r in range(R)]
    return Engine(Backbone(Network(module, "mobilenet_v2", "none:seed=0", "", names, Preprocess())))


def explain(engine: Engine, method: LCam, x: torch.Tensor) -> None:
    """Maps of the predicted classes."""
    seen = engine.forward(x)
    method(engine, seen, seen.predicted)


def timed(engine: Engine, work: object) -> float:
    """Seconds a call, over four."""
    assert callable(work)
    start = s.now(engine)
    for _ in range(4):
        work()
    return (s.now(engine) - start) / 4


if __name__ == "__main__":
    main()
