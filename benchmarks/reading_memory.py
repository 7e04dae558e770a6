"""Reading processes that keep memory between images, beside those that give it back.

    python benchmarks/reading_memory.py PHOTOS

Two reading processes take turns, one of each kind. Prints processor time an image, its ratio
(given back over kept) over the rounds, and the peak memory of both.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import deep_pictures
import dicom_rate
import side_by_side as s

from lcam_cli.images import decoder
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import Request

ROUNDS = 7
_FILES = 20
_TICKS = os.sysconf("SC_CLK_TCK")


def _sets(photos: Path, folder: Path) -> Iterator[tuple[str, list[Request]]]:
    for side in (320, 1024):
        pngs = folder / str(side)
        pngs.mkdir()
        deep_pictures.make_pngs(pngs, _FILES, side)
        deep = deep_pictures._PREPROCESS
        yield f"PNG of 16 bits, {side}", [Request(str(p), preprocess=deep) for p in pngs.iterdir()]
    slices = [folder / f"{i}.dcm" for i in range(_FILES)]
    for path in slices:
        dicom_rate.slice_of(512, dicom_rate.ExplicitVRLittleEndian).save_as(
            path, enforce_file_format=True
        )
    yield "DICOM, 512", [Request(str(path), preprocess=dicom_rate.SEEN) for path in slices]
    jpegs = sorted(photos.glob("*.JPEG"))[:60]
    yield "JPEG photographs", [Request(str(path), preprocess=Preprocess()) for path in jpegs]


def _started(*, keeps: bool) -> decoder.Decoder:
    kept = dict(decoder._KEPT_MEMORY)
    if not keeps:
        decoder._KEPT_MEMORY.clear()
    try:
        return decoder.Decoder()
    finally:
        decoder._KEPT_MEMORY.update(kept)


def _status(process: decoder.Decoder, name: str) -> str:
    return Path(f"/proc/{process._process.pid}/{name}").read_text()


def _seconds(process: decoder.Decoder) -> float:
    """Of the processor, in a process so far."""
    fields = _status(process, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak(process: decoder.Decoder) -> int:
    """Of memory, in MB."""
    found = re.search(r"VmHWM:\s*(\d+)", _status(process, "status"))
    return int(found[1]) // 1000 if found else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    print(s.machine())
    with tempfile.TemporaryDirectory() as name:
        for what, requests in _sets(given.photos, Path(name)):
            pair = [_started(keeps=False), _started(keeps=True)]
            times = 4 if "1024" in what else 600 // len(requests)
            spent: list[list[float]] = [[], []]
            for one in pair:
                for request in requests:
                    one.read(request)
            for _ in range(given.rounds):
                for one, seconds in zip(pair, spent, strict=True):
                    begin = _seconds(one)
                    for request in requests * times:
                        one.read(request)
                    seconds.append((_seconds(one) - begin) / times / len(requests))
            ratios = [before / after for before, after in zip(*spent, strict=True)]
            back, kept = (1000 * statistics.median(one) for one in spent)
            print(
                f"{what:<24} given back {back:.2f} ms, kept {kept:.2f} ms: "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
                f"peak {_peak(pair[0])} and {_peak(pair[1])} MB",
                flush=True,
            )
            for one in pair:
                one.close()


if __name__ == "__main__":
    main()
