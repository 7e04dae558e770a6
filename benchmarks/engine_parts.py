"""What each thing that the engine does to a network gives, one added to the other.

    python benchmarks/engine_parts.py mobilenet_v2

Each step runs in a process of its own, since the allocator cannot be changed back, and the steps
take turns. The last lines are the engine at several batch sizes, and torch.compile with what its
compilation takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import side_by_side as s

_CHILD = """
import sys, time, torch, torchvision
name, step, batch, compiled = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
from lcam_cli.engine.device import prepare_cpu
from lcam_cli.engine.folding import fold_batch_norms
from lcam_cli.engine.backbone import load_backbone
x = torch.rand(batch, 3, 224, 224)
if step >= 1:
    x = x.contiguous(memory_format=torch.channels_last)
if step >= 2:
    prepare_cpu()
if step < 4:
    network = torchvision.models.get_model(name, weights=None).eval().requires_grad_(False)
    if step >= 3:
        fold_batch_norms(network, keep="")
    if step >= 1:
        network = network.to(memory_format=torch.channels_last)
else:
    network = load_backbone(name, "none").to(torch.device("cpu"))
with torch.no_grad():
    start = time.perf_counter()
    if compiled:
        torch._inductor.config.freezing = True
        network = torch.compile(network.network)
        network(x)
        print("compiled", time.perf_counter() - start)
    network(x)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < 4:
        network(x)
        done += batch
    print("rate", done / (time.perf_counter() - start))
"""

_STEPS = (
    "torchvision, as it comes",
    "channels-last",
    "memory kept (mallopt)",
    "batch norms folded",
    "activations in place",
)


def child(name: str, step: int, batch: int, compiled: bool = False) -> tuple[float, float]:
    """Images a second, and the seconds that compiling took."""
    words = [sys.executable, "-c", _CHILD, name, str(step), str(batch), str(int(compiled))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    if "rate" not in told:
        return 0.0, 0.0
    return float(told["rate"]), float(told.get("compiled", 0))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=(4, 8, 16, 32, 64))
    given = parser.parse_args()

    name, last = given.backbone, len(_STEPS) - 1
    steps: list[list[float]] = [[] for _ in _STEPS]
    sizes: dict[int, list[float]] = {n: [] for n in given.sizes}
    for _ in range(given.rounds):
        for step, rates in enumerate(steps):
            rates.append(child(name, step, 32)[0])
        for n, rates in sizes.items():
            rates.append(child(name, last, n)[0])
    compiled, seconds = child(name, last, 32, compiled=True)
    print(s.machine())
    print(f"{name}, fp32, {given.rounds} rounds: median (lowest to highest)")
    for what, rates in zip(_STEPS, steps, strict=True):
        print(s.row(f"batch 32, {what}", rates, "images/s"))
    for n, rates in sizes.items():
        print(s.row(f"the engine, batch {n}", rates, "images/s"))
    if compiled:
        print(s.row(f"torch.compile (after {seconds:.0f} s), batch 32", [compiled], "images/s"))
    else:
        print("torch.compile does not run here")


if __name__ == "__main__":
    main()
