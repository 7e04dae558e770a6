"""What distribution costs: `lcam explain` by two ranks over one process, on the same two cores.

    python benchmarks/scale.py mobilenet_v2 ../shared/real/photos

One process computes a layer with all cores; ranks have their share of them each. Rates are steady
states, so that neither starting nor joining the shards, which take seconds, is in them; the whole
time of both is printed besides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import side_by_side as s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args()

    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = s.folder_of(given.photos, given.images, work / "photos")
        words = (
            *(folder, "--backbone", given.backbone, "--weights", "none", "--method", "cam"),
            *("--batch-size", given.batch_size, "--overwrite", "--quiet"),
        )
        for _ in range(given.rounds):
            measured = {}
            for kind, ranks in (("one", 1), ("ranks", given.ranks)):
                start = time.perf_counter()
                measured[kind] = s.steady_rate(*words, "--out", work / f"{kind}.h5", ranks=ranks)
                measured[f"{kind}, all"] = time.perf_counter() - start
            rounds.append(measured)
    print(s.machine())
    print(
        f"{given.backbone}, {given.images} images of {given.photos.name}, {given.rounds} rounds: "
        "median (lowest to highest)"
    )
    print(s.row("one process", [r["one"] for r in rounds], "images/s"))
    print(s.row(f"{given.ranks} ranks", [r["ranks"] for r in rounds], "images/s"))
    print(s.row(f"{given.ranks} ranks / one", [r["ranks"] / r["one"] for r in rounds]))
    print(s.row("one process, all of it", [r["one, all"] for r in rounds], "s"))
    print(s.row(f"{given.ranks} ranks, all of it", [r["ranks, all"] for r in rounds], "s"))


if __name__ == "__main__":
    main()
