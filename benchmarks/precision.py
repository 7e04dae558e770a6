"""bf16 against fp32: predicted classes, AD and IC, and the maps themselves.

    python benchmarks/precision.py RUN PICTURES

Explains the pictures with a trained run in both precisions, and evaluates both files in both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
import side_by_side as s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    given = parser.parse_args()

    print(s.machine())
    with tempfile.TemporaryDirectory() as name:
        files = {p: Path(name) / f"{p}.h5" for p in ("fp32", "bf16")}
        for precision, file in files.items():
            s.lcam(
                *("explain", given.pictures, "--attention", given.run, "--out", file),
                *("--map-dtype", "float32", "--precision", precision, "--quiet"),
            )
        for maps, file in files.items():
            for precision in files:
                run = s.lcam(
                    *("evaluate", file, "--format", "json", "--precision", precision, "--quiet"),
                )
                nu = json.loads(run.stdout)["rows"][0]["nu"]
                told = ", ".join(f"{k}: {v['ad']:.2f}/{v['ic']:.2f}" for k, v in nu.items())
                print(f"maps in {maps}, measured in {precision}: AD/IC at {told}")
        with h5py.File(files["fp32"]) as a, h5py.File(files["bf16"]) as b:
            same = a["predicted_index"][:] == b["predicted_index"][:]
            rows = np.flatnonzero(same)
            largest = [float(np.abs(a["saliency"][r] - b["saliency"][r]).max()) for r in rows]
    print(f"the same top-1 on {same.sum()} of {len(same)} ({same.mean():.2%})")
    print(
        f"largest difference of a map where it is the same: median {np.median(largest):.4f}, "
        f"99% {np.quantile(largest, 0.99):.4f}, most {max(largest):.4f}"
    )


if __name__ == "__main__":
    main()
