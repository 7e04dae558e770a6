"""What an ONNX classifier's masked forward passes cost, over onnxruntime's own bare rate.

    python benchmarks/onnx_rate.py net.onnx

onnxruntime runs the file as it is, on a batch that is ready; RISE runs it as `lcam explain` does,
from images to maps. They take turns in one process, with the same batch size and as many threads,
and the ratios are taken within a round: of seconds, and of the cores' seconds, which what else the
machine does disturbs less.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
import side_by_side as s
import torch

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.methods.rise import Rise


def bare_session(file: Path) -> onnxruntime.InferenceSession:
    """The file as onnxruntime runs it for anybody, with PyTorch's number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=4, help="full batches a turn")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()

    engine = Engine(load_backbone(str(given.file)), device="cpu", batch_size=given.batch_size)
    n, shape = given.batch_size, engine.backbone.preprocess.input_shape
    session = bare_session(given.file)
    name = session.get_inputs()[0].name
    batch = np.random.default_rng(0).standard_normal((n, *shape)).astype(np.float32)
    seen = engine.forward(torch.rand(n, *shape))
    classes = seen.predicted
    masks = given.batches  # of each of a batch's images

    def bare() -> None:
        for _ in range(given.batches):
            session.run(None, {name: batch})

    work = {"onnxruntime": bare, "RISE": lambda: Rise(masks)(engine, seen, classes)}
    clocks = {"seconds": time.perf_counter, "core-seconds": time.process_time}
    rates: dict[tuple[str, str], list[float]] = {(what, c): [] for what in work for c in clocks}
    for turn in range(given.rounds + 1):
        for what, run in work.items():
            start = {c: clock() for c, clock in clocks.items()}
            run()
            spent = {c: clock() - start[c] for c, clock in clocks.items()}
            for c in clocks if turn else ():  # the first warms up
                rates[what, c].append(given.batches * n / spent[c])
    print(s.machine())
    print(
        f"{given.file.name}, {torch.get_num_threads()} threads, batch {n}, {given.rounds} rounds: "
        "median (lowest to highest)"
    )
    for (what, clock), values in rates.items():
        print(s.row(f"{what}, by {clock}", values, "passes/s"))
    for clock in clocks:
        pairs = zip(rates["RISE", clock], rates["onnxruntime", clock], strict=True)
        print(s.row(f"RISE / onnxruntime, by {clock}", [rise / own for rise, own in pairs]))


if __name__ == "__main__":
    main()
