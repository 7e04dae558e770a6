"""What the engine's half precision costs over the best bare forward pass of the same network.

    python benchmarks/half_precision.py resnet50

The bare network is torchvision's own, its batch norms folded, cast and in channels-last layout. All
take turns; ratios are taken within a round. Weights are random.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

import side_by_side as s
import torch
import torchvision
from torch import fx, nn

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.folding import fold_batch_norms
from lcam_cli.engine.masked import MaskedForwards


def bare_network(name: str, dtype: torch.dtype) -> nn.Module:
    """Torchvision's own, folded and cast."""
    network = torchvision.models.get_model(name, weights=None).eval().requires_grad_(False)
    with contextlib.suppress(fx.proxy.TraceError):
        fold_batch_norms(network)
    return network.to(dtype=dtype, memory_format=torch.channels_last)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--bare-batch", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--autocast", action="store_true", help="autocast as well")
    given = parser.parse_args()
    n = given.batch_size
    engine = Engine(load_backbone(given.backbone, "none"), precision=given.precision, batch_size=n)
    dtype, side = engine.hardware.dtype, engine.backbone.preprocess.image_size
    bare = bare_network(given.backbone, dtype).to(engine.device)
    exact = bare_network(given.backbone, torch.float32).to(engine.device)

    def pictures(count: int) -> torch.Tensor:
        x = torch.rand(count, 3, side, side, device=engine.device)
        return x.contiguous(memory_format=torch.channels_last)

    x, masks = pictures(n), torch.rand(n, side, side, device=engine.device)
    forwards = MaskedForwards(engine, x[:1], torch.zeros(1, dtype=torch.int64))

    def autocast() -> None:
        with torch.autocast(engine.device.type, dtype):
            exact(x)

    turns: dict[str, tuple[int, Callable[[], object]]] = {
        "bare fp32": (n, lambda: exact(x)),
        "engine": (n, lambda: engine.forward(x)),
        "engine, masked": (n, lambda: forwards.scores([(0, masks)])),
    }
    if given.autocast:
        turns["bare, autocast"] = (n, autocast)
    for count in given.bare_batch:
        batch = pictures(count).to(dtype)
        turns[f"bare, batch {count}"] = (count, lambda batch=batch: bare(batch))

    def rate(count: int, work: Callable[[], object]) -> float:
        passes = max(1, n // count)
        start = s.now(engine)
        for _ in range(passes):
            work()
        return count * passes / (s.now(engine) - start)

    with torch.inference_mode(False), torch.no_grad():
        for _, work in turns.values():
            work()
        rounds = [{k: rate(*turn) for k, turn in turns.items()} for _ in range(given.rounds)]
    print(s.machine())
    print(f"{given.backbone}, {given.precision}, batch {n}, {given.rounds} rounds")
    for name in turns:
        print(s.row(name, [r[name] for r in rounds], "images/s"))
    best = [max(r[k] for k in r if k.startswith("bare, batch")) for r in rounds]
    for name in turns:
        if not name.startswith("bare, batch"):
            print(
                s.row(
                    f"{name} / best bare", [r[name] / b for r, b in zip(rounds, best, strict=True)]
                )
            )


if __name__ == "__main__":
    main()
