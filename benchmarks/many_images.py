"""Peak memory and rate at few and at many images, and start-up, with the real command.

    python benchmarks/many_images.py mobilenet_v2 ../shared/real/photos

Both folders hold the same images, as links. Rates are steady states.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import side_by_side as s


def seconds_of(*command: str) -> float:
    """Wall-clock seconds of a command."""
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def peak_of(folder: Path, run: Path, out: Path) -> tuple[int, float]:
    """Peak resident set (bytes) and seconds of one `lcam explain`, measured in its own parent."""
    script = (
        "import sys, side_by_side as s;"
        "r = s.lcam('explain', sys.argv[1], '--attention', sys.argv[2], '--out', sys.argv[3],"
        " '--overwrite', '--quiet'); print(r.peak, r.seconds)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(run), str(out)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    peak, seconds = done.stdout.split()
    return int(peak), float(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5, help="of the start-up")
    parser.add_argument("--rate-few", type=int, default=500, help="too short a run has no rate")
    parser.add_argument("--rate-rounds", type=int, default=3)
    given = parser.parse_args()

    print(s.machine())
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folders = {
            count: s.folder_of(given.photos.resolve(), count, work / str(count))
            for count in (1, 32, given.few, given.rate_few, given.many)
        }
        s.lcam(
            *("train", folders[32], "--backbone", given.backbone, "--weights", "none"),
            *("--recipe", "paper", "--epochs", "1", "--batch-size", "8", "--max-images", "8"),
            *("--out", work / "run", "--quiet"),
        )
        helps, firsts = [], []
        for _ in range(given.rounds):
            helps.append(seconds_of(sys.executable, "-m", "lcam_cli", "--help"))
            imports = seconds_of(sys.executable, "-c", "import torch, torchvision")
            firsts.append(peak_of(folders[1], work / "run", work / "one.h5")[1] - imports)
        print(s.row("lcam --help", helps, "s"))
        print(s.row("first map, less importing torch", firsts, "s"))
        explain = ("--attention", work / "run", "--out", work / "maps.h5", "--overwrite", "--quiet")
        rates: dict[int, list[float]] = {given.rate_few: [], given.many: []}
        for _ in range(given.rate_rounds):
            for count, found in rates.items():
                found.append(s.steady_rate(folders[count], *explain))
        few, many = (
            peak_of(folders[n], work / "run", work / "maps.h5")[0] for n in (given.few, given.many)
        )
    for count, found in rates.items():
        print(s.row(f"{count} images", found, "images/s"))
    ratios = [a / b for a, b in zip(rates[given.many], rates[given.rate_few], strict=True)]
    print(s.row("rate at many / rate at few", ratios))
    print(
        f"peak at {given.few} images {few / 2**20:.0f} MiB, at {given.many} {many / 2**20:.0f} MiB"
    )
    print(f"memory at many / memory at few: {many / few:.3f}")


if __name__ == "__main__":
    main()
